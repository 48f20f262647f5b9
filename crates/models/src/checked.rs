//! Looking at all states of a model.

use std::fmt::{Debug, Write as _};
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model};

/// What came of looking at a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Different states looked at: all there are, if nothing is wrong.
    pub states: usize,
    /// The steps of the longest way to a state that was not reached by a shorter one.
    pub depth: usize,
    /// A claim that does not hold, and a shortest way to a state in which it does not.
    pub wrong: Option<(&'static str, Vec<String>)>,
    /// What was to be seen, so that the model is not true of nothing, and was not: nothing more is looked at once
    /// a claim does not hold.
    pub unseen: Vec<&'static str>,
}

impl Checked {
    /// Looks at all states of `model`, those first that fewer steps lead to.
    pub fn of<M>(model: M) -> Self
    where
        M: Model + Send + Sync + 'static,
        M::State: Clone + Debug + Hash + PartialEq + Send + Sync + 'static,
        M::Action: Clone + Debug + PartialEq + Send + Sync + 'static,
    {
        let properties = model.properties();
        let checker = model.checker().finish_when(HasDiscoveries::AnyFailures);
        let checker = checker.spawn_bfs().join();
        let mut found = checker.discoveries();
        let mut wrong: Option<(&'static str, Vec<String>)> = None;
        let mut unseen = Vec::new();
        for property in properties {
            let path = found.remove(property.name);
            match (property.expectation, path) {
                (stateright::Expectation::Sometimes, None) => unseen.push(property.name),
                (stateright::Expectation::Sometimes, Some(_)) | (_, None) => (),
                (_, Some(path)) => {
                    let steps =
                        path.into_actions().iter().map(|step| format!("{step:?}")).collect();
                    wrong = wrong.or(Some((property.name, steps)));
                }
            }
        }
        let (states, depth) = (checker.unique_state_count(), checker.max_depth());
        Self { states, depth, wrong, unseen }
    }

    /// The claim that does not hold, and the way there, to be read.
    pub fn told(&self) -> String {
        let Self { states, depth, wrong, unseen } = self;
        let mut text = format!("{states} states, {depth} steps deep");
        if let Some((claim, steps)) = wrong {
            write!(text, "; not so: {claim}").expect("a String takes it");
            for step in steps {
                write!(text, "\n  {step}").expect("a String takes it");
            }
        }
        if !unseen.is_empty() {
            write!(text, "; never seen: {unseen:?}").expect("a String takes it");
        }
        text
    }
}

/// Whether models are looked at within their wide bounds.
pub fn is_long() -> bool {
    std::env::var_os("MERGANSER_LONG_TESTS").is_some()
}
