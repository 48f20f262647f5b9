//! A file system of a size of its own for the directory of a node: a tmpfs in a mount namespace, for which no
//! rights are needed where users may make namespaces.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The file that takes the room: hidden, as foreign ones in a data directory must be.
const FILLER: &str = ".filler";

/// What namespaces are made with: by root, and by anybody else.
const NAMESPACES: [&[&str]; 2] = [&["--mount"], &["--map-root-user", "--mount"]];

/// The file system, as long as this is there.
pub(crate) struct SmallDisk {
    /// It lives in the namespace, so that others can enter it.
    holder: Child,
    /// How that is entered.
    enter: Vec<String>,
    at: PathBuf,
}

impl SmallDisk {
    /// One of so many bytes at `at`, if this machine lets us mount one. Where it does not, the test says so, and
    /// in CI it fails.
    pub(crate) fn mount(at: &Path, bytes: u64) -> Option<Self> {
        std::fs::create_dir_all(at).expect("the directory is ours");
        let at = at.to_owned();
        for namespace in NAMESPACES {
            let mut holder = Command::new("unshare")
                .args(namespace)
                .args([
                    "sh",
                    "-c",
                    "mount -t tmpfs -o size=\"$2\" none \"$1\" && echo mounted && exec cat",
                ])
                .arg("sh")
                .arg(&at)
                .arg(bytes.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("util-linux is there");
            let stdout = holder.stdout.take().expect("it is piped");
            let mounted = BufReader::new(stdout).lines().next();
            let is_mounted = mounted.is_some_and(|line| line.is_ok_and(|line| line == "mounted"));
            let mut enter = vec![format!("--target={}", holder.id()), "--mount".to_owned()];
            if namespace.len() > 1 {
                enter.extend(["--user".to_owned(), "--preserve-credentials".to_owned()]);
            }
            // Dropped, it ends.
            let disk = Self { holder, enter, at: at.clone() };
            if is_mounted {
                return Some(disk);
            }
        }
        let reason = "this machine lets us mount nothing (unshare --mount)";
        assert!(std::env::var_os("CI").is_none(), "{reason}: run the tests where it does");
        eprintln!("SKIPPED: {reason}");
        None
    }

    /// The same command, run where the file system is.
    pub(crate) fn within(&self, command: &Command) -> Command {
        let mut entered = Command::new("nsenter");
        entered.args(&self.enter).arg("--").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => entered.env(name, value),
                None => entered.env_remove(name),
            };
        }
        entered.stdin(Stdio::null());
        entered
    }

    /// Takes so much room.
    pub(crate) fn take(&self, bytes: u64) {
        self.run(&format!("head -c {bytes} /dev/zero >> \"$1\""));
    }

    /// Takes all room that is left.
    pub(crate) fn fill(&self) {
        // It ends where the disk does.
        self.run("! cat /dev/zero >> \"$1\" 2> /dev/null");
    }

    /// Gives back what was taken.
    pub(crate) fn free(&self) {
        self.run("rm \"$1\"");
    }

    fn run(&self, script: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(self.at.join(FILLER));
        let status = self.within(&command).status().expect("util-linux is there");
        assert!(status.success(), "{script}: {status}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Already ended: nothing is left to do.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
