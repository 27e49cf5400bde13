//! `posthaste ctl`, `rotate` and `show`: what the small programs around Momentum's server did, for the scripts that call them.
//!
//! They talk to the server as anybody does: by its pid file, signals and console. A service manager does `ctl`'s work better, and
//! `log_rotation` or logrotate that of `rotate`.

use crate::cli::{CtlAction, CtlArgs, RotateArgs, ShowArgs};
use crate::server;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ph_admin::{Address, ConsoleClient};
use ph_config::{Config, ListenerKind};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How long a start and an end are waited for: what `ec_ctl` took.
const PATIENCE: Duration = Duration::from_secs(55);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn ctl(args: &CtlArgs) -> Result<ExitCode> {
    let path = args.config.clone().or_else(server::find_config).context("no configuration file: name it with -c")?;
    let Some(config) = load(&path) else { return Ok(ExitCode::FAILURE) };
    let Some(pidfile) = server::pidfile_path(&config, Some(&path)) else {
        bail!("{} names no Pidfile, by which the server could be found", path.display());
    };
    if args.action != CtlAction::Start {
        stop(&pidfile)?;
    }
    if args.action != CtlAction::Stop {
        return start(&path, &pidfile);
    }
    Ok(ExitCode::SUCCESS)
}

fn start(config: &Path, pidfile: &Path) -> Result<ExitCode> {
    if let Some(pid) = server::running(pidfile) {
        println!("posthaste is running already, process {pid}");
        return Ok(ExitCode::SUCCESS);
    }
    // A file and no pipe: nobody reads on when this program has ended.
    let mut said = tempfile::tempfile().context("no temporary file")?;
    let program = std::env::current_exe().context("where is this program?")?;
    let mut command = Command::new(program);
    command.args(["run", "--config"]).arg(config).stdin(Stdio::null());
    command.stdout(said.try_clone()?).stderr(said.try_clone()?);
    // The terminal's signals are for those who sit at it.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().context("cannot start the server")?;
    let until = Instant::now() + PATIENCE;
    loop {
        let ended = child.try_wait()?;
        let mut text = String::new();
        said.rewind()?;
        said.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "ready") {
            println!("posthaste is running, process {}", child.id());
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(status) = ended {
            eprint!("{text}");
            eprintln!("posthaste did not start: {status}");
            return Ok(ExitCode::FAILURE);
        }
        if Instant::now() > until {
            eprint!("{text}");
            eprintln!("posthaste, process {}, is not ready yet", child.id());
            return Ok(ExitCode::FAILURE);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn stop(pidfile: &Path) -> Result<()> {
    let Some(pid) = server::running(pidfile) else {
        println!("posthaste is not running");
        return Ok(());
    };
    let number = i32::try_from(pid).context("no number of a process")?;
    kill(Pid::from_raw(number), Signal::SIGTERM).with_context(|| format!("cannot end process {pid}"))?;
    let until = Instant::now() + PATIENCE;
    while server::running(pidfile) == Some(pid) {
        if Instant::now() > until {
            bail!("process {pid} has not ended yet");
        }
        std::thread::sleep(LOOK_EVERY);
    }
    println!("posthaste has ended, process {pid}");
    Ok(())
}

pub fn rotate(args: &RotateArgs) -> Result<ExitCode> {
    let path = args.config.clone().or_else(server::find_config);
    let mut files = args.logfile.clone();
    let mut socket = args.socket.clone();
    if files.is_empty() || socket.is_none() {
        let Some(config) = path.as_deref().map_or_else(|| Some(Config::builtin()), load) else {
            return Ok(ExitCode::FAILURE);
        };
        if files.is_empty() {
            files = server::log_files(&config);
        }
        socket = socket.or_else(|| control_address(&config));
    }
    let mut moved = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        moved.push(shift(file, args.retention).with_context(|| format!("cannot rotate {}", file.display()))?);
    }
    if let Some(socket) = socket
        && let Err(error) = ask(&socket, "reopen logs")
    {
        // A log whose file is gone is opened anew at its next line in any case.
        eprintln!("posthaste: the logs were not reopened: {error:#}");
    }
    if let Some(utility) = &args.compress {
        for file in moved {
            let status =
                Command::new(utility).arg(&file).status().with_context(|| format!("cannot run {utility:?}"))?;
            if !status.success() {
                bail!("{} {}: {status}", utility.display(), file.display());
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `log` becomes `log.1`, `log.1.bz2` becomes `log.2.bz2`; what comes after `keep` goes. Returns the new `log.1`.
fn shift(log: &Path, keep: u32) -> Result<PathBuf> {
    let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = log.file_name().and_then(|name| name.to_str()).context("a name in UTF-8 is wanted")?;
    let mut old: Vec<(u32, String)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|entry| {
            let rest = entry.strip_prefix(name)?.strip_prefix('.')?;
            let (number, suffix) = rest.split_once('.').map_or((rest, String::new()), |(n, s)| (n, format!(".{s}")));
            Some((number.parse().ok()?, suffix))
        });
        old.extend(number);
    }
    old.sort_unstable_by(|left, right| right.cmp(left));
    for (number, suffix) in old {
        let from = folder.join(format!("{name}.{number}{suffix}"));
        match number.checked_add(1).filter(|number| *number <= keep) {
            Some(next) => std::fs::rename(&from, folder.join(format!("{name}.{next}{suffix}")))?,
            None => std::fs::remove_file(&from)?,
        }
    }
    let first = folder.join(format!("{name}.1"));
    std::fs::rename(log, &first)?;
    Ok(first)
}

pub fn show(args: &ShowArgs) -> Result<ExitCode> {
    let path = args.config.clone().or_else(server::find_config);
    let socket = match &args.socket {
        Some(socket) => socket.clone(),
        None => {
            let Some(config) = path.as_deref().map_or_else(|| Some(Config::builtin()), load) else {
                return Ok(ExitCode::FAILURE);
            };
            control_address(&config).context("the configuration has no Control_Listener to ask")?
        }
    };
    print!("{}", ask(&socket, &format!("message details full {}", args.message))?);
    Ok(ExitCode::SUCCESS)
}

/// The configuration; `None` when its errors have been shown.
fn load(path: &Path) -> Option<Config> {
    match Config::load(path) {
        Ok(loaded) => Some(loaded.config),
        Err(report) => {
            eprintln!("{report}");
            None
        }
    }
}

fn control_address(config: &Config) -> Option<String> {
    let control = config.listeners().iter().filter(|listener| listener.kind == ListenerKind::Control);
    let listen = control.flat_map(|listener| &listener.listens).find(|listen| listen.enabled)?;
    Some(match &listen.address {
        ph_config::ListenAddr::Unix(path) => path.display().to_string(),
        ph_config::ListenAddr::Tcp(address) => address.to_string(),
    })
}

fn ask(socket: &str, command: &str) -> Result<String> {
    let address: Address = socket.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connect = ConsoleClient::connect(&address).await;
        let mut client = connect.with_context(|| format!("no server answers on {address}"))?;
        if client.must_authenticate().await? {
            bail!("{address} asks for a user: use `posthaste console`");
        }
        Ok(client.request(command).await?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_logs_move_up_by_one_and_the_last_goes() {
        let dir = tempfile::tempdir().expect("a folder");
        let log = dir.path().join("mainlog.ec");
        let put = |name: &str| std::fs::write(dir.path().join(name), name).expect("a file");
        for name in
            ["mainlog.ec", "mainlog.ec.1", "mainlog.ec.2.bz2", "mainlog.ec.3", "mainlog.ec.old", "mainlog.ec2.1"]
        {
            put(name);
        }
        assert_eq!(shift(&log, 3).expect("rotated"), dir.path().join("mainlog.ec.1"));
        let mut found: Vec<(String, String)> = std::fs::read_dir(dir.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry"))
            .map(|entry| {
                let text = std::fs::read_to_string(entry.path()).expect("a file");
                (entry.file_name().to_string_lossy().into_owned(), text)
            })
            .collect();
        found.sort();
        let found: Vec<(&str, &str)> = found.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(
            found,
            [
                ("mainlog.ec.1", "mainlog.ec"),
                ("mainlog.ec.2", "mainlog.ec.1"),
                ("mainlog.ec.3.bz2", "mainlog.ec.2.bz2"),
                ("mainlog.ec.old", "mainlog.ec.old"),
                ("mainlog.ec2.1", "mainlog.ec2.1"),
            ]
        );
    }
}
