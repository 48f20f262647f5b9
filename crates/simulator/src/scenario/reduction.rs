//! What is left out of a scenario that is to be made smaller, as text: `nodes=3;requests=1-4,9`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::{Fault, SimOptions, Workload};

/// Steps of a workload: each may begin a fault, and make a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(pub BTreeSet<usize>);

/// Less of a scenario. What is not named stays as it was drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reduction {
    /// Nodes in the beginning.
    pub nodes: Option<usize>,
    /// Keys.
    pub keys: Option<usize>,
    /// Clients.
    pub clients: Option<usize>,
    /// Faults that do not come.
    pub off: BTreeSet<Fault>,
    /// The steps that make a request; all if it is not named.
    pub requests: Option<Steps>,
    /// The steps that may begin a fault; all if it is not named.
    pub faults: Option<Steps>,
}

impl Reduction {
    pub(crate) fn keeps_request(&self, step: usize) -> bool {
        self.requests.as_ref().is_none_or(|steps| steps.0.contains(&step))
    }

    pub(crate) fn keeps_fault(&self, step: usize) -> bool {
        self.faults.as_ref().is_none_or(|steps| steps.0.contains(&step))
    }

    pub(super) fn apply(&self, options: &mut SimOptions, workload: &mut Workload) {
        options.nodes = self.nodes.unwrap_or(options.nodes);
        workload.keys = self.keys.unwrap_or(workload.keys);
        workload.clients = self.clients.unwrap_or(workload.clients);
        for &fault in &self.off {
            match fault {
                Fault::Loss => options.network.loss = 0,
                Fault::Duplication => options.network.duplication = 0,
                Fault::Delay => options.network.straggling = 0,
                Fault::Garbling => options.network.garbling = 0,
                Fault::LastWords => options.network.last_words = 0,
                Fault::Reordering => options.network.delay_max_ms = options.network.delay_min_ms,
                Fault::RefusedWrite => options.disk.refused = 0,
                Fault::FailedSync => options.disk.misreported = 0,
                Fault::LostHint => options.hints_lost = 0,
                Fault::FullHints => options.hint_bytes_max = u64::MAX,
                Fault::FullMemory => options.pending_bytes_max = usize::MAX,
                Fault::RingsApart => options.apart = 0,
                Fault::ClockDrift => options.drift_ppm = 0,
                fault => workload.rates.set(fault, 0),
            }
        }
        let steps = [&self.requests, &self.faults];
        let last =
            steps.map(|steps| steps.as_ref().map(|steps| steps.0.last().map_or(0, |s| s + 1)));
        if let [Some(requests), Some(faults)] = last {
            workload.requests = requests.max(faults);
        }
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for &step in &self.0 {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == step => *last = step,
                _ => runs.push((step, step)),
            }
        }
        let texts = runs.into_iter().map(|(first, last)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        });
        f.write_str(&texts.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Steps {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<usize>().map_err(|_| format!("{text:?} is no number of a step"))
        };
        let mut steps = BTreeSet::new();
        for run in text.split(',').filter(|run| !run.is_empty()) {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            let (first, last) = (number(first)?, number(last)?);
            if last > 1_000_000 {
                return Err(format!("step {last} is beyond any workload"));
            }
            steps.extend(first..=last);
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |name, value: Option<usize>| value.map(|value| format!("{name}={value}"));
        let steps = |name, steps: &Option<Steps>| steps.as_ref().map(|s| format!("{name}={s}"));
        let off: Vec<&str> = self.off.iter().map(|fault| fault.name()).collect();
        let parts = [
            number("nodes", self.nodes),
            number("keys", self.keys),
            number("clients", self.clients),
            (!off.is_empty()).then(|| format!("off={}", off.join(","))),
            steps("requests", &self.requests),
            steps("faults", &self.faults),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(";"))
    }
}

impl FromStr for Reduction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut reduction = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("{part:?} lacks a ="))?;
            let number = || match value.parse::<usize>() {
                Ok(number @ 1..=1_000) => Ok(Some(number)),
                _ => Err(format!("{name} is a number from 1 to 1000, not {value:?}")),
            };
            match name {
                "nodes" => reduction.nodes = number()?,
                "keys" => reduction.keys = number()?,
                "clients" => reduction.clients = number()?,
                "off" => {
                    let faults = value.split(',').map(str::parse);
                    reduction.off = faults.collect::<Result<_, _>>()?;
                }
                "requests" => reduction.requests = Some(value.parse()?),
                "faults" => reduction.faults = Some(value.parse()?),
                _ => return Err(format!("{name:?} is nothing that can be reduced")),
            }
        }
        Ok(reduction)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reduction, Steps};
    use crate::Fault;

    #[test]
    fn a_reduction_is_read_back_as_it_is_written() {
        let reduction = Reduction {
            nodes: Some(3),
            clients: Some(1),
            off: [Fault::Loss, Fault::Pause].into(),
            requests: Some(Steps([1, 2, 3, 9].into())),
            faults: Some(Steps::default()),
            ..Reduction::default()
        };
        let text = "nodes=3;clients=1;off=loss,pause;requests=1-3,9;faults=";
        assert_eq!(reduction.to_string(), text);
        assert_eq!(text.parse(), Ok(reduction));
        assert_eq!("".parse(), Ok(Reduction::default()));
    }

    #[test]
    fn what_is_no_reduction_is_refused() {
        for text in ["nodes", "nodes=0", "off=thunder", "requests=x", "faults=1-99999999999", "a=1"]
        {
            assert!(text.parse::<Reduction>().is_err(), "{text}");
        }
    }
}
