//! What an answer says of durable copies is exactly so, also when those that stood in for owners are lost
//! for good with their disks.

use super::agreement::{agree, json, rest, sees};
use super::process::{Process, Spec, eventually, run};

/// No replica is given up only because the machine is busy, and what waits for one that is gone ends within seconds.
const PATIENT_ENOUGH: &str = "timeout_ms = 8000\ncover_ms = 5000\n";

/// Five nodes, of which three own a key and two stand in, and others that take the places of lost ones.
pub(super) struct Cluster {
    specs: Vec<Spec>,
    nodes: Vec<Option<Process>>,
    /// Which of the nodes were never started.
    spare: Vec<usize>,
}

impl Cluster {
    pub(super) fn start(directory: &std::path::Path, spare: usize, settings: &str) -> Self {
        let mut specs = Spec::founders_and_others(directory, 5, spare);
        specs.iter_mut().for_each(|spec| spec.settings += settings);
        let nodes: Vec<Option<Process>> =
            specs[..5].iter().map(|spec| Some(spec.start())).collect();
        rest(&specs[..5]);
        let spare = (5..specs.len()).collect();
        Self { specs, nodes, spare }
    }

    pub(super) fn spec(&self, name: &str) -> &Spec {
        self.specs.iter().find(|spec| spec.name == name).expect("it is one of them")
    }

    fn at(&self, name: &str) -> usize {
        self.specs.iter().position(|spec| spec.name == name).expect("it is one of them")
    }

    pub(super) fn running(&self) -> Vec<Spec> {
        let running = self.specs.iter().zip(&self.nodes).filter(|(_, node)| node.is_some());
        running.map(|(spec, _)| spec.clone()).collect()
    }

    /// The preference list of a key, by name: the first three own it.
    pub(super) fn list(&self, key: &str) -> Vec<String> {
        let found = json(&self.running()[0], &["ring", "--key", key]).expect("it answers");
        let list = found["key"]["preference_list"].as_array().expect("a list").iter();
        list.map(|name| name.as_str().expect("a name").to_owned()).collect()
    }

    /// Kills nodes, and waits until all others know.
    pub(super) fn kill(&mut self, names: &[String]) {
        for name in names {
            let at = self.at(name);
            self.nodes[at].take().expect("it runs").kill();
        }
        for spec in self.running() {
            for name in names {
                sees(&spec, name, "not connected", |member| member["connected"] == false);
            }
        }
    }

    pub(super) fn restart(&mut self, names: &[String]) {
        for name in names {
            let at = self.at(name);
            self.nodes[at] = Some(self.specs[at].start());
        }
    }

    /// Kills a node and loses its disk.
    fn lose(&mut self, name: &str) {
        self.kill(&[name.to_owned()]);
        std::fs::remove_dir_all(&self.spec(name).data).expect("it was there");
    }

    /// Puts another node in the place of a lost one.
    fn replace(&mut self, name: &str) {
        let spare = self.spare.remove(0);
        self.nodes.resize_with(spare + 1, || None);
        self.nodes[spare] = Some(self.specs[spare].start());
        let new = self.specs[spare].name.clone();
        let by = self.running().into_iter().find(|spec| spec.name != new).expect("others run");
        sees(&by, &new, "connected", |member| member["connected"] == true);
        sees(&by, name, "suspected", |member| member["suspected"] == true);
        json(&by, &["cluster", "replace", name, &new]).expect("it is replaced");
    }

    /// Writes at the node `name`; what its answer says of copies.
    fn write(&self, name: &str, key: &str) -> [u64; 4] {
        let answer = json(self.spec(name), &["register", "set", key, "quack"]);
        let acks = &answer.expect("it is accepted")["acks"];
        ["acked", "needed", "hinted", "owners"].map(|name| acks[name].as_u64().expect("a count"))
    }

    /// For how many keys a node keeps something for another.
    pub(super) fn keeps(&self, name: &str, other: &str) -> u64 {
        let status = json(self.spec(name), &["status"]).expect("it answers");
        let mut members = status["members"].as_array().expect("a list").iter();
        let member = members.find(|member| member["name"] == *other).expect("it is a member");
        member["pending"].as_u64().expect("a count")
    }

    /// All agree, and each shows the value by what all three owners hold.
    fn all_show(&self, key: &str) {
        let running = self.running();
        agree(&running, &[]);
        for spec in &running {
            let found = json(spec, &["-r", "3", "register", "get", key]).expect("it is there");
            assert_eq!(found, "quack", "at {}", spec.name);
        }
    }
}

#[test]
fn each_level_is_as_durable_as_its_answer_says_when_substitutes_are_lost_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(directory.path(), 3, PATIENT_ENOUGH);

    // Two owners have it, a substitute keeps it for the third, and is lost.
    let [one, two, three, stands_in, _] = &cluster.list("a")[..] else { panic!("five") };
    let (three, stands_in) = (three.clone(), stands_in.clone());
    cluster.kill(std::slice::from_ref(&three));
    let [acked, needed, _, owners] = cluster.write(one, "a");
    assert_eq!([acked, needed, owners], [2, 2, 3]);
    // The answer does not wait for it, since w owners have the value.
    eventually("the substitute keeps it", || {
        (cluster.keeps(&stands_in, &three) == 1).then_some(())
    });
    assert_eq!(cluster.keeps(two, &three), 0);
    cluster.lose(&stands_in);
    cluster.restart(&[three]);
    cluster.replace(&stands_in);
    cluster.all_show("a");

    // One owner has it, and is lost: the substitutes of the others have it.
    let list = cluster.list("b");
    let (one, away, stand_in) = (list[0].clone(), list[1..3].to_vec(), &list[3..]);
    cluster.kill(&away);
    assert_eq!(cluster.write(&one, "b"), [1, 2, 2, 3]);
    // Each keeps it for one of them.
    for name in stand_in {
        let kept: u64 = away.iter().map(|other| cluster.keeps(name, other)).sum();
        assert_eq!(kept, 1, "{name}");
    }
    cluster.lose(&one);
    cluster.restart(&away);
    cluster.replace(&one);
    cluster.all_show("b");

    // No owner has it, and one of two substitutes, not the one that took it, is lost.
    let list = cluster.list("c");
    let (owners, took, other) = (list[..3].to_vec(), list[3].clone(), list[4].clone());
    cluster.kill(&owners);
    assert_eq!(cluster.write(&took, "c"), [0, 2, 3, 3]);
    cluster.lose(&other);
    cluster.restart(&owners);
    cluster.replace(&other);
    cluster.all_show("c");

    // A bucket that must have w owners refuses, and nothing is written.
    let by = cluster.running()[0].clone();
    json(&by, &["bucket", "create", "sure", "availability=quorum"]).expect("it is created");
    let found = json(&by, &["--bucket", "sure", "ring", "--key", "d"]).expect("it answers");
    let list: Vec<String> =
        serde_json::from_value(found["key"]["preference_list"].clone()).unwrap();
    let (one, away) = (list[0].clone(), list[1..3].to_vec());
    cluster.kill(&away);
    let node = format!("127.0.0.1:{}", cluster.spec(&one).peer);
    let refused = run(&["--node", &node, "--bucket", "sure", "register", "set", "d", "quack"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("1 of 2 needed replicas can be reached; nothing was written"), "{said}");
    cluster.restart(&away);
    agree(&cluster.running(), &[]);
    let node = format!("127.0.0.1:{}", cluster.running()[0].peer);
    eventually("nothing of it is there", || {
        let found = run(&["--node", &node, "--bucket", "sure", "-r", "3", "register", "get", "d"]);
        (found.status.code() == Some(1)).then_some(())
    });
}
