use replication::RawValues;

use super::*;

fn settings(text: &str) -> Settings {
    toml::from_str(text).unwrap()
}

fn error(text: &str) -> String {
    settings(text).resolve().unwrap_err().to_string()
}

#[test]
fn a_data_directory_is_all_that_a_cluster_of_one_needs() {
    let config = settings(r#"data = "d""#).resolve().unwrap();
    assert_eq!((config.name.as_str(), config.cluster.as_str()), ("node1", "merganser"));
    assert_eq!(config.listen.resp.to_string(), "127.0.0.1:7379");
    assert_eq!(config.partitions.get(), 4096);
    assert!(config.secret.is_none() && config.peers.is_empty() && config.loops >= 1);
    assert_eq!(config.beginning, Beginning::Search);
    assert_eq!(
        error(""),
        "`data` is missing: name the directory that keeps this node's data, with --data DIR or in the file"
    );
}

#[test]
fn the_upper_layer_wins_where_it_says_something() {
    let flags = settings(r#"name = "flag""#);
    let environment = settings("name = \"env\"\nloops = 2");
    let file = settings("name = \"file\"\nloops = 3\ndata = \"d\"");
    let config = flags.or(environment).or(file).resolve().unwrap();
    assert_eq!((config.name.as_str(), config.loops), ("flag", 2));
}

#[test]
fn an_unknown_setting_is_an_error_that_names_it() {
    let error = toml::from_str::<Settings>("nmae = \"a\"").unwrap_err().to_string();
    assert!(error.contains("unknown field `nmae`"), "{error}");
}

#[test]
fn several_members_need_a_secret() {
    let text = "data = \"d\"\n[members]\nb = \"127.0.0.1:1\"";
    assert!(error(text).starts_with("`secret` is missing"));
    let short = format!("secret = \"short\"\n{text}");
    assert_eq!(error(&short), "`secret`: at least 16 bytes, better random ones");
}

#[test]
fn a_node_may_be_listed_among_its_own_members() {
    let text = "data = \"d\"\nname = \"a\"\n[members]\na = \"127.0.0.1:1\"";
    assert_eq!(settings(text).resolve().unwrap().peers, []);
    let bad = "data = \"d\"\nsecret = \"0123456789abcdef\"\n[members]\nb = \"somewhere\"";
    assert_eq!(error(bad), "`members.b`: \"somewhere\" is not HOST:PORT");
}

#[test]
fn a_member_is_an_address_alone_or_with_zone_and_weight() {
    let text = "data = \"d\"\nname = \"a\"\nsecret = \"0123456789abcdef\"\n[members]\n\
                a = { address = \"127.0.0.1:1\", zone = \"x\", weight = 2 }\n\
                b = { address = \"127.0.0.1:2\", zone = \"y\" }\nc = \"127.0.0.1:3\"";
    let config = settings(text).resolve().unwrap();
    let placed = config.members().into_iter().map(|member| {
        let zone = member.zone.map(|zone| zone.as_str().to_owned());
        (zone.unwrap_or_default(), member.weight.get())
    });
    assert_eq!(placed.collect::<Vec<_>>(), [("x".into(), 2), ("y".into(), 1), (String::new(), 1)]);
    let wrong = |member: &str| {
        let text = format!("[members]\nb = {member}");
        toml::from_str::<Settings>(&text).unwrap_err().to_string()
    };
    assert!(
        wrong("{ address = \"h:1\", weight = 0 }").contains("a weight of 0: it must be from 1")
    );
    assert!(wrong("{ address = \"h:1\", zone = \"\" }").contains("a zone's name has 1 to 64"));
    assert!(wrong("{ address = \"h:1\", rack = \"x\" }").contains("unknown field `rack`"));
    assert!(wrong("7").contains("\"HOST:PORT\", or { address = \"HOST:PORT\""));
}

#[test]
fn a_flag_says_of_a_member_what_the_file_can() {
    let parsed = MemberSettings::parse("h:1,weight=3,zone=x").unwrap();
    assert_eq!((parsed.address.as_str(), parsed.weight.get()), ("h:1", 3));
    assert_eq!(parsed.zone.as_ref().map(|zone| zone.as_str()), Some("x"));
    assert_eq!(MemberSettings::parse("h:1"), Ok("h:1".into()));
    for text in ["h:1,rack=x", "h:1,weight=x", "h:1,zone=a,zone=b", "h:1,"] {
        let error = MemberSettings::parse(text).unwrap_err();
        assert!(error.contains("write zone=NAME or weight=1 to 1000"), "{error}");
    }
    assert!(
        MemberSettings::parse("h:1,weight=1001").unwrap_err().contains("it must be from 1 to 1000")
    );
}

#[test]
fn listening_beyond_loopback_must_be_asked_for_in_so_many_words() {
    let text = "data = \"d\"\nhttp = \"0.0.0.0:80\"";
    assert!(error(text).starts_with("`http`: 0.0.0.0:80 can be reached from other machines"));
    let listen = settings(&format!("{text}\ninsecure_listen = true")).resolve().unwrap().listen;
    assert_eq!(listen.http.port(), 80);
}

#[test]
fn the_default_policy_is_checked_and_no_other_is_in_the_configuration() {
    let policy = |text: &str| {
        let text = format!("data = \"d\"\n[default_bucket]\n{text}");
        settings(&text).resolve().unwrap().default_policy
    };
    let one = policy("n = 1");
    assert_eq!((one.n, one.r, one.w), (1, 1, 1));
    let strict = policy("w = 3\navailability = \"quorum\"\nraw = \"lww\"");
    assert_eq!((strict.n, strict.r, strict.w), (3, 2, 3));
    assert_eq!((strict.availability, strict.raw), (Availability::Quorum, RawValues::Lww));
    assert_eq!(
        error("data = \"d\"\n[default_bucket]\nr = 4"),
        "`default_bucket`: n=3, r=4, w=2: r and w must be from 1 to n, and n from 1 to 5"
    );
    let error = toml::from_str::<Settings>("[buckets.b]\nr = 1").unwrap_err().to_string();
    assert!(error.contains("unknown field `buckets`"), "{error}");
}

#[test]
fn founders_who_were_told_the_same_begin_the_same_cluster() {
    let id = |name: &str, members: &str, more: &str| {
        let text = format!(
            "data = \"d\"\nname = \"{name}\"\nsecret = \"0123456789abcdef\"\n{more}\n[members]\n{members}"
        );
        match settings(&text).resolve().unwrap().beginning {
            Beginning::Founders(id) => id,
            other => panic!("{other:?}"),
        }
    };
    let both = "a = \"h:1\"\nb = { address = \"h:2\", zone = \"z\", weight = 2 }";
    let first = id("a", both, "");
    assert_eq!(id("b", both, ""), first);
    // Where a founder is reached may change, and may differ from node to node.
    assert_eq!(id("b", &both.replace("h:1", "proxy:9"), ""), first);
    assert_ne!(id("a", &both.replace("weight = 2", "weight = 3"), ""), first);
    assert_ne!(id("a", &both.replace("\"z\"", "\"y\""), ""), first);
    assert_ne!(id("a", both, "partitions = 64"), first);
    assert_ne!(id("a", both, "cluster = \"geese\""), first);
    assert_ne!(id("c", both, ""), first);
}

#[test]
fn a_cluster_begins_by_bootstrap_or_by_its_founders() {
    let bootstrap = |text: &str| {
        Settings { bootstrap: Some(true), ..settings(&format!("data = \"d\"\n{text}")) }.resolve()
    };
    assert_eq!(bootstrap("").unwrap().beginning, Beginning::Bootstrap);
    let error = bootstrap("[members]\nnode1 = \"h:1\"").unwrap_err().to_string();
    assert_eq!(
        error,
        "`bootstrap`: a cluster with founders begins by itself: leave out `members`, or `--bootstrap`"
    );
    // A start that lost its disk must not begin another cluster by itself.
    let error = toml::from_str::<Settings>("bootstrap = true").unwrap_err().to_string();
    assert!(error.contains("unknown field `bootstrap`"), "{error}");
}

#[test]
fn seeds_need_a_secret_and_are_addresses_to_which_those_of_founders_are_added() {
    let text = "data = \"d\"\nseeds = [\"ducks.example:7381\"]";
    assert!(error(text).starts_with("`secret` is missing"));
    let text = format!("{text}\nsecret = \"0123456789abcdef\"");
    let config = settings(&format!("{text}\n[members]\nb = \"h:2\"")).resolve().unwrap();
    assert_eq!(config.seeds, ["ducks.example:7381", "h:2"]);
    assert_eq!(settings(&text).resolve().unwrap().beginning, Beginning::Search);
    let wrong = |text: &str| error(&format!("data = \"d\"\n{text}"));
    assert_eq!(wrong("seeds = [\":1\"]"), "`seeds`: \":1\" is not HOST:PORT");
    assert_eq!(wrong("advertise = \"here\""), "`advertise`: \"here\" is not HOST:PORT");
}

#[test]
fn a_node_that_listens_anywhere_says_where_it_is_reached() {
    let text = "data = \"d\"\npeer = \"0.0.0.0:7381\"\ninsecure_listen = true";
    assert!(error(text).starts_with("`advertise` is missing"));
    let config = settings(&format!("{text}\nadvertise = \"duck:7381\"")).resolve().unwrap();
    assert_eq!(config.peer_address(), "duck:7381");
    assert_eq!(settings("data = \"d\"").resolve().unwrap().peer_address(), "127.0.0.1:7381");
}

#[test]
fn zone_and_weight_are_said_once() {
    let config = settings("data = \"d\"\nzone = \"x\"\nweight = 2").resolve().unwrap();
    assert_eq!((config.zone.unwrap().as_str(), config.weight.get()), ("x", 2));
    let error = error("data = \"d\"\nzone = \"x\"\n[members]\nnode1 = \"h:1\"");
    assert!(error.starts_with("`members.node1`: stands beside `zone` or `weight`"), "{error}");
}

#[test]
fn partitions_are_a_power_of_two() {
    assert!(error("data = \"d\"\npartitions = 3").starts_with("`partitions`: 3 partitions"));
}

#[test]
fn the_threshold_of_suspicion_is_within_bounds() {
    let threshold =
        |text: &str| settings(&format!("data = \"d\"\n{text}")).resolve().unwrap().phi_threshold;
    assert_eq!([threshold(""), threshold("phi_threshold = 8.5")], [10.0, 8.5]);
    for wrong in ["2.9", "101.0", "nan", "inf"] {
        let text = format!("data = \"d\"\nphi_threshold = {wrong}");
        assert_eq!(error(&text), "`phi_threshold`: 3 to 100");
    }
}

#[test]
fn a_node_that_could_not_be_connected_to_is_refused() {
    assert_eq!(error("data = \"d\"\nconnections_max = 0"), "`connections_max`: 1 to 1000000");
}

#[test]
fn memory_for_rows_has_room_for_some() {
    let bytes = |text: &str| settings(&format!("data = \"d\"\n{text}")).resolve().unwrap();
    assert_eq!(bytes("").memtable_bytes, 64 << 20);
    assert_eq!(bytes("memtable_bytes = 65536").memtable_bytes, 65_536);
    assert_eq!(error("data = \"d\"\nmemtable_bytes = 65535"), "`memtable_bytes`: at least 65536");
}

#[test]
fn the_soft_limit_of_siblings_is_no_more_than_the_hard_one() {
    let limits = |text: &str| settings(&format!("data = \"d\"\n{text}")).resolve().unwrap().limits;
    let both = |text| (limits(text).siblings_soft, limits(text).siblings);
    assert_eq!(both(""), (25, 100));
    assert_eq!(both("siblings_max = 10"), (10, 10));
    assert_eq!(both("siblings_soft = 2\nsiblings_max = 3"), (2, 3));
    assert_eq!(
        error("data = \"d\"\nsiblings_soft = 101"),
        "`siblings_soft`: 1 to 100, which is `siblings_max`"
    );
    assert_eq!(error("data = \"d\"\nsiblings_max = 0"), "`siblings_max`: 1 to 10000");
    assert_eq!(limits("elements_max = 7").elements, 7);
    assert_eq!(error("data = \"d\"\nelements_max = 0"), "`elements_max`: at least 1");
}
