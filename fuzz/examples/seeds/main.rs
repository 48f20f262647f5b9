//! Writes the seeds of every target: real encodings, as the product makes them today.
//!
//! `cargo run --example seeds -- DIRECTORY`

mod disks;
mod said;
mod texts;
mod typed;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The seeds of a target, by name.
type Seeds = BTreeMap<String, Vec<u8>>;

fn main() -> std::io::Result<()> {
    let Some(directory) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: seeds DIRECTORY");
        std::process::exit(2);
    };
    let all: [(&str, Seeds); 12] = [
        ("wire", said::wire()),
        ("handshake", said::handshakes()),
        ("gossip", said::gossip()),
        ("cluster", said::cluster()),
        ("value", typed::values()),
        ("token", typed::tokens()),
        ("log", disks::logs()),
        ("record", disks::records()),
        ("row", disks::rows()),
        ("backup", disks::backups()),
        ("resp", texts::resp()),
        ("http", texts::http()),
    ];
    for (target, seeds) in all {
        let directory = directory.join(target);
        std::fs::create_dir_all(&directory)?;
        let (count, bytes) = (seeds.len(), seeds.values().map(Vec::len).sum::<usize>());
        for (name, seed) in seeds {
            std::fs::write(directory.join(name), seed)?;
        }
        println!("{target}: {count} seeds, {bytes} bytes");
    }
    Ok(())
}
