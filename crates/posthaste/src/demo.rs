//! `posthaste demo`: a whole mail world on loopback. A server with the example configuration and policy, a sink as the next
//! hop, a few hundred realistic messages, and then what became of them.
//!
//! The server is this very program, run as a process of its own: what the demo shows is what a site gets.

mod letters;
mod report;

use crate::cli::DemoArgs;
use anyhow::{Context, Result, bail};
use letters::Letter;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CONFIG: &str = include_str!("../../../examples/demo/posthaste.conf");
const POLICY: &str = include_str!("../../../examples/demo/lua/welcome.lua");

/// Sessions that send at once.
const SESSIONS: usize = 4;
/// How long the demo waits for the queue to come to rest.
const REST_MAX: Duration = Duration::from_secs(25);

pub fn run(args: &DemoArgs) -> Result<()> {
    let keep = tempfile::Builder::new().prefix("posthaste-demo").tempdir().context("cannot make a folder")?;
    let dir = keep.path().to_owned();
    println!("Posthaste demo: everything happens on this machine, in {}\n", dir.display());

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let sink = runtime.block_on(ph_load::sink::run(sink_options(&dir)))?;
    println!(
        "1. A sink stands for the rest of the world: it takes mail on {}, puts off what goes to *@slow.example",
        sink.address()
    );
    println!("   (twice, then takes it), and refuses what goes to *@closed.example.");

    let server = Server::start(&dir, sink.address())?;
    println!(
        "2. Posthaste listens on {}. Its policy is examples/demo/lua/welcome.lua, forty lines of Lua.",
        server.smtp
    );

    let letters = Arc::new(letters::make(args.messages));
    println!("3. {} letters in {SESSIONS} sessions:\n", letters.len());
    let tally = send(server.smtp, &letters)?;
    wait_for_rest(&dir, &tally)?;
    report::show(&dir, &server, &tally, &sink)?;

    drop(server);
    if args.keep {
        println!("\nThe folder stays: {}", keep.keep().display());
    }
    Ok(())
}

fn sink_options(dir: &Path) -> ph_load::SinkOptions {
    ph_load::SinkOptions {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        defer: vec!["*@slow.example".to_owned()],
        defer_times: 2,
        refuse: vec!["*@closed.example".to_owned()],
        store: Some(dir.join("delivered")),
        ..ph_load::SinkOptions::default()
    }
}

/// The server's process; stopped in order when dropped.
pub struct Server {
    child: Child,
    pub smtp: SocketAddr,
    control: PathBuf,
}

impl Server {
    fn start(dir: &Path, sink: SocketAddr) -> Result<Server> {
        let text = CONFIG
            .replace("@DIR@", &dir.display().to_string())
            .replace("@SINK@", &sink.port().to_string())
            .replace("@SMTP@", "0");
        std::fs::create_dir_all(dir.join("lua"))?;
        std::fs::write(dir.join("posthaste.conf"), text)?;
        std::fs::write(dir.join("lua/welcome.lua"), POLICY)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(dir.join("posthaste.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut smtp = None;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if line == "ready" {
                break;
            }
            smtp = smtp.or_else(|| line.strip_prefix("listening ")?.split_once(" on ")?.1.parse().ok());
        }
        let Some(smtp) = smtp else { bail!("the server did not start; its words are above") };
        Ok(Server { child, smtp, control: dir.join("control") })
    }

    /// One console command's output.
    pub fn console(&self, command: &str) -> Result<String> {
        let output = Command::new(std::env::current_exe()?)
            .args(["console", "--socket"])
            .arg(&self.control)
            .args(["-c", command])
            .output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.child.wait();
    }
}

/// What the sessions saw.
#[derive(Default)]
pub struct Tally {
    pub sent: AtomicU32,
    pub accepted: AtomicU32,
    pub refused: AtomicU32,
    pub refusals: parking_lot::Mutex<Vec<String>>,
}

fn send(to: SocketAddr, letters: &Arc<Vec<Letter>>) -> Result<Arc<Tally>> {
    let tally = Arc::new(Tally::default());
    let next = Arc::new(AtomicUsize::new(0));
    let sessions: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let (letters, tally, next) = (letters.clone(), tally.clone(), next.clone());
            std::thread::spawn(move || session(to, &letters, &tally, &next))
        })
        .collect();
    let total = u32::try_from(letters.len())?;
    while sessions.iter().any(|session| !session.is_finished()) {
        progress("sent", tally.sent.load(Ordering::Relaxed), total);
        std::thread::sleep(Duration::from_millis(50));
    }
    for session in sessions {
        session.join().map_err(|_| anyhow::anyhow!("a session broke"))??;
    }
    progress("sent", total, total);
    println!();
    Ok(tally)
}

fn session(to: SocketAddr, letters: &[Letter], tally: &Tally, next: &AtomicUsize) -> Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(to)?);
    reply(&mut stream)?;
    say(&mut stream, "EHLO shop.example")?;
    while let Some(letter) = letters.get(next.fetch_add(1, Ordering::Relaxed)) {
        let outcome = transaction(&mut stream, letter)?;
        tally.sent.fetch_add(1, Ordering::Relaxed);
        match outcome {
            None => {
                tally.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Some(refusal) => {
                tally.refused.fetch_add(1, Ordering::Relaxed);
                let mut known = tally.refusals.lock();
                if !known.contains(&refusal) {
                    known.push(refusal);
                }
                drop(known);
                say(&mut stream, "RSET")?;
            }
        }
        // A person watches: the letters go out at a pace that the eye can follow.
        std::thread::sleep(Duration::from_millis(8));
    }
    say(&mut stream, "QUIT")?;
    Ok(())
}

/// The refusal, if there was one.
fn transaction(stream: &mut BufReader<TcpStream>, letter: &Letter) -> Result<Option<String>> {
    let steps = [format!("MAIL FROM:<{}>", letter.from), format!("RCPT TO:<{}>", letter.to), "DATA".to_owned()];
    for step in &steps {
        let answer = say(stream, step)?;
        if !answer.starts_with(['2', '3']) {
            return Ok(Some(answer));
        }
    }
    stream.get_mut().write_all(letter.content.replace('\n', "\r\n").as_bytes())?;
    let answer = say(stream, "\r\n.")?;
    Ok((!answer.starts_with('2')).then_some(answer))
}

fn say(stream: &mut BufReader<TcpStream>, line: &str) -> Result<String> {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes())?;
    reply(stream)
}

/// The last line of a reply.
fn reply(stream: &mut BufReader<TcpStream>) -> Result<String> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(line.trim_end().to_owned());
        }
    }
}

/// Until every accepted letter has come to an end, with the numbers on the way.
fn wait_for_rest(dir: &Path, tally: &Tally) -> Result<()> {
    let accepted = tally.accepted.load(Ordering::Relaxed);
    let deadline = Instant::now() + REST_MAX;
    loop {
        let log = std::fs::read_to_string(dir.join("mainlog.ec")).unwrap_or_default();
        let count = report::Counts::of(&log);
        let done = count.delivered + count.failed + count.discarded(dir);
        progress("settled", done.min(accepted + count.reports), accepted + count.reports);
        if done >= accepted + count.reports || Instant::now() > deadline {
            println!();
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One line that is drawn over itself on a terminal.
fn progress(what: &str, done: u32, total: u32) {
    const WIDTH: u32 = 40;
    if !std::io::stdout().is_terminal() && done < total {
        return;
    }
    let filled = (done * WIDTH).checked_div(total).unwrap_or(WIDTH).min(WIDTH) as usize;
    print!("\r   {what:8} [{}{}] {done}/{total}", "#".repeat(filled), ".".repeat(WIDTH as usize - filled));
    let _ = std::io::stdout().flush();
}
