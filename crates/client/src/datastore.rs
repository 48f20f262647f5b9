//! The facade that gateways, demos and applications speak to.

use async_trait::async_trait;
use bytes::Bytes;
use replication::{
    Answer, BucketCall, BucketReply, Comparison, ConflictList, ConflictsRequest, Explanation,
    RepairProgress, RepairRequest, Request, RequestError, ScanPage, ScanRequest,
};
use values::Key;
use wire::{
    BackupCall, BackupProgress, ClusterCall, ClusterStatus, CommittedPlan, DrainCall,
    DrainProgress, PlanCall, PlanReport, TransferReport,
};

/// A datastore: a node from within, a cluster through the native client, or a replica in memory
/// for tests.
#[async_trait]
pub trait Datastore: Send + Sync {
    /// Does requests side by side, those on one key in the order given. One result each, in order.
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>>;

    /// A page of the keys of a bucket.
    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError>;

    /// The number of live keys of a bucket.
    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError>;

    /// A page of the keys in conflict, as the replica of one node shows them: of the node that answers, or of the
    /// one whose cursor is given.
    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError>;

    /// How a key stands: owners, what each holds, what their merge shows.
    async fn explain(&self, key: Key) -> Result<Explanation, RequestError>;

    /// Asks about buckets, or has one changed. A change is durable at the node when this returns,
    /// and at as many others as the reply says; they get it when they can be reached.
    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError>;

    /// Has the replicas of the node that answers compared with those of other owners soon, and says
    /// how far that is: begun without `since_ms`, asked about with the one that was answered.
    async fn repair(&self, request: RepairRequest) -> Result<RepairProgress, RequestError> {
        let _ = request;
        Err(alone())
    }

    /// When the partitions of the node that answers were last found equal with each other owner, in
    /// order of the partitions.
    async fn comparisons(&self) -> Result<Vec<Comparison>, RequestError> {
        Err(alone())
    }

    /// How the cluster looks from the node that answers.
    async fn status(&self) -> Result<ClusterStatus, RequestError>;

    /// Changes who belongs to the cluster, and how. Durable at the member concerned when this returns; the
    /// others come to know it by gossip.
    async fn cluster(&self, call: ClusterCall) -> Result<(), RequestError> {
        let member = call.member();
        Err(RequestError::Unsupported(format!(
            "there is no cluster here that {member:?} belongs to"
        )))
    }

    /// Says what a plan would change, as the node that answers knows the members. Nothing is changed.
    async fn plan(&self, call: PlanCall) -> Result<PlanReport, RequestError> {
        let _ = call;
        Err(no_cluster())
    }

    /// Commits a plan, as the node that answers knows the members. Durable at that node when this returns; the
    /// handover goes on in the background. Refused while too many plans are under way. A member whose places another
    /// one takes ([`PlanCall::Replace`]) is removed unless it is already: only one that the node that answers cannot
    /// reach is.
    async fn commit(&self, call: PlanCall) -> Result<CommittedPlan, RequestError> {
        let _ = call;
        Err(no_cluster())
    }

    /// What moves in the cluster while partitions follow a plan, as far as members say it to the node that answers:
    /// some seconds at most.
    async fn transfers(&self) -> Result<TransferReport, RequestError> {
        Err(no_cluster())
    }

    /// Has all members of the ring of the node that answers join the ring of the node at `seed`, which was
    /// bootstrapped apart, with all that they hold. They own nothing there until a plan is committed. Refused
    /// where something would be lost.
    async fn merge(&self, seed: &str) -> Result<(), RequestError> {
        let _ = seed;
        Err(RequestError::Unsupported("there is no cluster here to be merged".into()))
    }

    /// Has a member drain and stop, and says how far that is, within a second. It takes no requests any more,
    /// finishes those that it took, hands over what it keeps for others in reach, and stays a member.
    async fn drain(&self, call: DrainCall) -> Result<DrainProgress, RequestError> {
        let _ = call;
        Err(RequestError::Unsupported("only a node can be drained".into()))
    }

    /// Cuts or restores the links between a member and all others: on development clusters, to see
    /// replicas diverge and converge.
    async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError>;

    /// Begins a backup of the node that answers, in the background, or asks how far it is.
    async fn backup(&self, call: BackupCall) -> Result<BackupProgress, RequestError> {
        let _ = call;
        Err(RequestError::Unsupported("only a node can be backed up".into()))
    }

    /// Does one request.
    async fn request(&self, request: Request) -> Result<Answer, RequestError> {
        self.execute(vec![request])
            .await
            .pop()
            .unwrap_or_else(|| Err(RequestError::Disconnected("no answer came".into())))
    }
}

fn no_cluster() -> RequestError {
    RequestError::Unsupported("there is no cluster here whose partitions could move".into())
}

fn alone() -> RequestError {
    RequestError::Unsupported("there is no other replica to compare with".into())
}
