//! Stores that break their promises, each told from one that keeps them.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Mutex;

use bytes::Bytes;
use client::MemoryDatastore;
use replication::{
    Action, BucketCall, BucketReply, ConflictList, ConflictsRequest, Explanation, Request,
    ScanPage, ScanRequest,
};
use tokio::sync::watch;
use values::{CartOp, Key, Operation, Scope, State, Tag};
use wire::ClusterStatus;

use super::*;

/// How a store breaks its promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Some acknowledged adds are never made.
    Drops,
    /// Some are made, shown in the answer, and gone after.
    Swallows,
    /// Some are made twice.
    Doubles,
    /// Some are made with other units.
    Alters,
    /// What was removed is shown again.
    Resurrects,
    /// Some removals, acknowledged, do nothing.
    Ignores,
    /// Nothing is done once links are cut.
    Refuses,
    /// Nothing is answered once links are cut.
    Hangs,
}

/// A store of one replica with a flaw that shows in every seventh operation that it concerns.
struct Flawed {
    store: MemoryDatastore,
    flaw: Flaw,
    operations: AtomicU64,
    /// The carts as they were before something was removed.
    before: Mutex<BTreeMap<Key, Answer>>,
    /// Whether links were cut or healed, in order.
    links: watch::Sender<Vec<bool>>,
}

impl Flawed {
    fn is_seventh(&self) -> bool {
        self.operations.fetch_add(1, Ordering::Relaxed) % 7 == 6
    }

    async fn update(&self, request: Request, cart: CartOp) -> Result<Answer, RequestError> {
        let update = |cart| Request::update(request.key.clone(), Operation::Cart(cart));
        let item = match &cart {
            CartOp::Add { item, .. } | CartOp::SetQuantity { item, .. } | CartOp::Remove(item) => {
                item.clone()
            }
        };
        let is_add = matches!(cart, CartOp::Add { .. });
        // What a read shows looks like the answer of an update.
        let scope = Operation::Cart(cart.clone()).scope();
        let read = Request::get(request.key.clone(), scope);
        match self.flaw {
            Flaw::Drops if is_add && self.is_seventh() => self.store.request(read).await,
            Flaw::Ignores if !is_add && self.is_seventh() => self.store.request(read).await,
            Flaw::Swallows if is_add && self.is_seventh() => {
                let answer = self.store.request(request.clone()).await?;
                self.store.request(update(CartOp::Remove(item))).await?;
                Ok(answer)
            }
            Flaw::Doubles if is_add && self.is_seventh() => {
                self.store.request(update(cart)).await?;
                self.store.request(request).await
            }
            Flaw::Alters if is_add && self.is_seventh() => {
                self.store.request(update(CartOp::Add { item, quantity: 1_000 })).await
            }
            Flaw::Resurrects if !is_add => {
                let before = self.store.request(Request::get(request.key.clone(), Scope::Whole));
                let before = before.await?;
                if let Ok(mut known) = self.before.lock() {
                    known.insert(request.key.clone(), before);
                }
                self.store.request(request).await
            }
            _ => self.store.request(request).await,
        }
    }

    async fn read(&self, request: Request) -> Result<Answer, RequestError> {
        let key = request.key.clone();
        let mut answer = self.store.request(request).await?;
        let known = self.before.lock().ok().and_then(|known| known.get(&key).cloned());
        if let Some(before) = known
            && let (Some(State::Cart(cart)), Some(State::Cart(before))) =
                (answer.view.value.0.get_mut(&Tag::CART), before.view.value.state(Tag::CART))
        {
            for (item, adds) in &before.store.0 {
                let adds = adds.0.iter().map(|(&dot, &units)| (dot, units));
                cart.store.0.entry(item.clone()).or_default().0.extend(adds);
            }
        }
        Ok(answer)
    }
}

#[async_trait::async_trait]
impl Datastore for Flawed {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        // By then so many lines are done that the links are cut.
        let is_late = || self.operations.fetch_add(1, Ordering::Relaxed) >= 25;
        if matches!(self.flaw, Flaw::Refuses | Flaw::Hangs) && is_late() {
            let mut links = self.links.subscribe();
            links.wait_for(|links| links.contains(&true)).await.unwrap();
            match self.flaw {
                Flaw::Hangs => pending().await,
                _ => return vec![Err(RequestError::Overloaded); requests.len()],
            }
        }
        let mut answers = Vec::new();
        for request in requests {
            answers.push(match &request.action {
                Action::Update(Operation::Cart(cart)) => {
                    let cart = cart.clone();
                    self.update(request, cart).await
                }
                _ => self.read(request).await,
            });
        }
        answers
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        self.store.scan(request).await
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        self.store.count(bucket).await
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
        self.store.conflicts(request).await
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        self.store.explain(key).await
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        self.store.buckets(call).await
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        self.store.status().await
    }

    async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError> {
        assert_eq!(member, "memory");
        self.links.send_modify(|links| links.push(cut));
        Ok(())
    }
}

fn flawed(flaw: Flaw) -> Flawed {
    Flawed {
        store: MemoryDatastore::new(),
        flaw,
        operations: AtomicU64::new(0),
        before: Mutex::default(),
        links: watch::Sender::default(),
    }
}

fn options(cut: bool) -> CartsOptions {
    let (data, strategy) = (None, StrategyName::Crdt);
    CartsOptions { data, strategy, cut, shoppers: 1, nodes: Vec::new() }
}

fn purchases() -> Vec<Shopper> {
    let mut file = "invoice,stock_code,quantity,customer\n".to_owned();
    for line in 0..30 {
        // Of each of three items five are bought, bought again, and some returned.
        let (item, quantity) = (line % 3, if line % 9 > 5 { -7 } else { 5 });
        file += &format!("{line},item{item},{quantity},ada\n");
    }
    invoices::read(file.as_bytes()).unwrap()
}

/// What is reported of a store with `flaw`: the lines, and the error with which the program ends.
async fn reported(flaw: Flaw) -> (Vec<String>, Option<anyhow::Error>) {
    let nodes: Vec<Arc<dyn Datastore>> = vec![Arc::new(flawed(flaw))];
    let report = replay(&options(false), purchases(), nodes, pending()).await.unwrap();
    let lines = report.to_string().lines().map(str::to_owned).collect();
    (lines, report.verdict().err())
}

async fn detected(flaw: Flaw, line: &str) {
    let (lines, error) = reported(flaw).await;
    assert!(lines.iter().any(|shown| shown == line), "{flaw:?}: {lines:#?}");
    let error = error.expect("it is an error");
    assert!(error.to_string().starts_with("the store broke its promise"), "{error}");
    assert_eq!(crate::commands::exit_code(&error), std::process::ExitCode::from(6));
}

#[tokio::test]
async fn a_store_that_keeps_its_promises_is_found_to_do_so() {
    let (lines, error) = reported(Flaw::None).await;
    assert!(error.is_none(), "{error:?}");
    for line in ["lost 0", "resurrected 0", "unexplained 0", "outcome unknown 0"] {
        assert!(lines.iter().any(|shown| shown == line), "{line}: {lines:#?}");
    }
}

#[tokio::test]
async fn a_store_that_drops_acknowledged_adds_is_found_out() {
    detected(Flaw::Drops, "lost 3").await;
}

#[tokio::test]
async fn a_store_that_swallows_adds_after_it_showed_them_is_found_out() {
    detected(Flaw::Swallows, "lost 6").await;
}

#[tokio::test]
async fn a_store_that_makes_adds_twice_is_found_out() {
    detected(Flaw::Doubles, "unexplained 3").await;
}

#[tokio::test]
async fn a_store_that_adds_other_units_is_found_out() {
    detected(Flaw::Alters, "lost 3").await;
}

#[tokio::test]
async fn a_store_that_shows_what_was_removed_is_found_out() {
    detected(Flaw::Resurrects, "resurrected 3").await;
}

#[tokio::test]
async fn a_store_that_acknowledges_removals_and_does_nothing_is_found_out() {
    detected(Flaw::Ignores, "resurrected 3").await;
}

#[tokio::test]
async fn links_are_healed_however_the_replay_ends() {
    for (flaw, error) in [(Flaw::Refuses, "overloaded"), (Flaw::Hangs, "interrupted")] {
        let store = Arc::new(flawed(flaw));
        let mut links = store.links.subscribe();
        let stop = async {
            if flaw == Flaw::Refuses {
                pending::<()>().await;
            }
            links.wait_for(|links| links.contains(&true)).await.unwrap();
        };
        let nodes: Vec<Arc<dyn Datastore>> = vec![store.clone(), store.clone()];
        let ended = replay(&options(true), purchases(), nodes, stop).await;
        let ended = ended.expect_err("it is an error").to_string();
        assert!(ended.contains(error), "{ended}");
        assert_eq!(*store.links.borrow(), [true, false], "{flaw:?}");
    }
}
