//! How the loops of a node stand: all are asked at once, and none is waited for without end.

use std::time::Duration;

use replication::RequestError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::routing::LoopHandle;
use crate::work::{Depth, LoopReport, Work};

/// What every loop says, in their order, within `limit`. An error names the loop that did not.
pub(crate) async fn of_all(
    loops: &[LoopHandle],
    depth: Depth,
    limit: Duration,
) -> Result<Vec<LoopReport>, RequestError> {
    let end = Instant::now() + limit;
    let mut asked = Vec::with_capacity(loops.len());
    for (index, handle) in loops.iter().enumerate() {
        let (reply, report) = oneshot::channel();
        let ask = Work::Report { reply, depth };
        handle.work.try_send(ask).map_err(|error| match error {
            TrySendError::Full(_) => unanswered(index, loops.len(), "it has too much to do"),
            TrySendError::Closed(_) => RequestError::Stopping,
        })?;
        asked.push(report);
    }
    let mut reports = Vec::with_capacity(loops.len());
    for (index, report) in asked.into_iter().enumerate() {
        let report = timeout_at(end, report).await.map_err(|_| {
            let why = format!("it did not answer within {} ms", limit.as_millis());
            unanswered(index, loops.len(), &why)
        })?;
        reports.push(report.map_err(|_| RequestError::Stopping)?);
    }
    Ok(reports)
}

fn unanswered(index: usize, count: usize, why: &str) -> RequestError {
    RequestError::Unreachable(format!("event loop {index} of this node's {count}: {why}"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn handle() -> (LoopHandle, mpsc::Receiver<Work>) {
        let (work, taken) = mpsc::channel(1);
        let (urgent, jobs) = (mpsc::unbounded_channel().0, mpsc::unbounded_channel().0);
        (LoopHandle { work, urgent, jobs }, taken)
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_does_not_answer_is_named_after_the_limit() {
        let ((one, mut works), (other, _stands_still)) = (handle(), handle());
        let loops = [one, other];
        let answers = async {
            let Some(Work::Report { reply, .. }) = works.recv().await else { panic!("a report") };
            reply.send(LoopReport::default()).expect("it is waited for");
        };
        let limit = Duration::from_millis(700);
        let (reports, ()) = tokio::join!(of_all(&loops, Depth::Glance, limit), answers);
        let Err(RequestError::Unreachable(why)) = reports else { panic!("{reports:?}") };
        assert_eq!(why, "event loop 1 of this node's 2: it did not answer within 700 ms");
        // Nor has it room for another question.
        let full = of_all(&loops[1..], Depth::Glance, limit).await;
        assert!(matches!(full, Err(RequestError::Unreachable(_))), "{full:?}");
    }
}
