//! Server processes that this comparison started: ended with it, and what they used of the processor.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::net::TcpStream;

/// How long a server may take until its port answers.
const START: Duration = Duration::from_secs(30);
/// How long a server may take to end before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// A running server. Dropped, it is asked to end, then killed.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a server; what it prints goes to a file in `directory`.
    pub(crate) fn start(command: &mut Command, directory: &Path) -> anyhow::Result<Self> {
        let name = command.get_program().to_owned();
        fs::create_dir_all(directory)?;
        let log = fs::File::create(directory.join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}: install it first", name.display()))?;
        Ok(Self { child })
    }

    /// Memory that only this process has, in bytes: of files, what it changed.
    pub(crate) fn private_bytes(&self) -> anyhow::Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let private = rollup.lines().filter(|line| line.starts_with("Private_"));
        let mut bytes = 0;
        for line in private {
            let kibibytes = line.split_whitespace().nth(1).context("no figure in smaps_rollup")?;
            bytes += kibibytes.parse::<u64>()? << 10;
        }
        Ok(bytes)
    }

    /// Processor time used so far, of the user and the system, in clock ticks of 10 ms.
    fn ticks(&self) -> anyhow::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may hold spaces; the times are the 12th and 13th field after it.
        let fields = stat.rsplit(')').next().context("no name in stat")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) else {
            bail!("no times in stat");
        };
        Ok(user.parse::<u64>()? + system.parse::<u64>()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process is a child that nobody waited for yet, so its id is its own still.
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let begun = Instant::now();
        while asked.as_ref().is_ok_and(std::process::ExitStatus::success) && begun.elapsed() < STOP
        {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::yield_now();
        }
        // It may have ended just now, and then there is nothing left to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor seconds that all of `processes` used so far.
pub(crate) fn cpu_seconds(processes: &[Process]) -> anyhow::Result<f64> {
    let mut ticks = 0;
    for process in processes {
        ticks += process.ticks()?;
    }
    Ok(ticks as f64 / 100.0)
}

/// Waits until something accepts connections at `address`.
pub(crate) async fn answers(address: SocketAddr) -> anyhow::Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if begun.elapsed() > START {
            bail!("nothing answers at {address}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
