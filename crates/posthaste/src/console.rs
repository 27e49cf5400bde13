//! `posthaste console`: one command and out, or a prompt with completion, history and a pager.

use crate::cli::ConsoleArgs;
use anyhow::{Context as _, Result, bail};
use ph_admin::{Address, ConsoleClient};
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::{Context, Editor, Helper, Highlighter, Hinter, Validator};
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

/// Replies longer than this go through the pager, when there is a terminal.
const PAGE_LINES: usize = 40;

pub fn run(args: &ConsoleArgs) -> Result<ExitCode> {
    // Scripts written for ec_console name the address as the first word.
    let mut words = args.words.as_slice();
    let mut socket = args.socket.as_str();
    if let Some((first, rest)) = words.split_first()
        && (first.starts_with('/') || first.contains(':') && first.parse::<Address>().is_ok())
    {
        (socket, words) = (first, rest);
    }
    let address: Address = socket.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = connect(&address).await?;
        let mut commands = args.command.clone();
        if !words.is_empty() {
            commands.push(words.join(" "));
        }
        if !commands.is_empty() {
            return batch(&mut client, &commands).await;
        }
        if std::io::stdin().is_terminal() {
            return prompt(&mut client, socket).await;
        }
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        batch(&mut client, &lines).await
    })
}

pub async fn connect(address: &Address) -> Result<ConsoleClient> {
    let mut client = ConsoleClient::connect(address).await.with_context(|| {
        format!("no server answers on {address} (is it running, and is this its Control_Listener?)")
    })?;
    if !client.must_authenticate().await? {
        return Ok(client);
    }
    let Address::Tcp { user: Some(user), .. } = address else {
        bail!("the server asks for a user: posthaste console --socket USER@HOST:PORT");
    };
    let password = match std::env::var("POSTHASTE_PASSWORD") {
        Ok(password) => password,
        Err(_) => read_password(user)?,
    };
    if !client.authenticate(user, &password).await? {
        bail!("access denied for '{user}'");
    }
    Ok(client)
}

/// Reads a line without showing it.
fn read_password(user: &str) -> Result<String> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    eprint!("Password of {user}: ");
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).ok();
    if let Some(shown) = &shown {
        let mut hidden = shown.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        let _ = tcsetattr(&stdin, SetArg::TCSANOW, &hidden);
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if let Some(shown) = &shown {
        let _ = tcsetattr(&stdin, SetArg::TCSANOW, shown);
    }
    eprintln!();
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Output only: no banner, no prompt. Fails when a command is unknown.
async fn batch(client: &mut ConsoleClient, commands: &[String]) -> Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for (at, command) in commands.iter().enumerate() {
        let reply = client.request(command).await?;
        print!("{reply}");
        if reply.starts_with("Unknown command") {
            code = ExitCode::FAILURE;
        }
        if at + 1 == commands.len() && reply.contains("Tracing the policy.") {
            follow(client, command).await?;
        }
    }
    std::io::stdout().flush()?;
    Ok(code)
}

/// Prints the trace that `command` began, in its form, until one of the two ends is gone or the server refuses.
async fn follow(client: &mut ConsoleClient, command: &str) -> Result<()> {
    let form = command.trim_start().split_once("trace").map_or("", |(form, _)| form);
    loop {
        std::io::stdout().flush()?;
        let events = client.request(&format!("{form}trace next")).await?;
        print!("{events}");
        // Events begin with their time, and their list in the other forms with its sign.
        if !events.is_empty()
            && !events.starts_with(|c: char| c.is_ascii_digit() || c == '[')
            && !events.starts_with("<Trace")
        {
            return Ok(());
        }
    }
}

/// Completes the words of the commands that the server has.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Words {
    commands: Vec<String>,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..at];
        let start = typed.rfind(' ').map_or(0, |blank| blank + 1);
        let mut next: Vec<&str> = self
            .commands
            .iter()
            .filter_map(|command| command.strip_prefix(&typed[..start])?.split(' ').next())
            .filter(|word| word.starts_with(&typed[start..]))
            .collect();
        next.sort_unstable();
        next.dedup();
        let pair = |word: &str| Pair { display: word.to_owned(), replacement: format!("{word} ") };
        Ok((start, next.into_iter().map(pair).collect()))
    }
}

async fn prompt(client: &mut ConsoleClient, place: &str) -> Result<ExitCode> {
    let commands = ph_admin::command_names().into_iter().map(str::to_owned).collect();
    let mut editor: Editor<Words, rustyline::history::FileHistory> = Editor::new()?;
    editor.set_helper(Some(Words { commands }));
    let history = history_file();
    if let Some(history) = &history {
        let _ = editor.load_history(history);
    }
    let mut pager = true;
    loop {
        let now = clock_time();
        let line = match editor.readline(&format!("{now} {place}> ")) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        };
        let command = line.trim();
        if command.is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(command);
        match command {
            "quit" | "exit" => break,
            "\\pager" => {
                pager = !pager;
                println!("pager {}", if pager { "on" } else { "off" });
            }
            _ => show(&client.request(command).await?, pager),
        }
    }
    if let Some(history) = &history {
        let _ = editor.save_history(history);
    }
    Ok(ExitCode::SUCCESS)
}

fn clock_time() -> String {
    jiff::Timestamp::now().to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string()
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(PathBuf::from(home).join(".posthaste_history"))
}

fn show(reply: &str, pager: bool) {
    if pager && reply.lines().count() > PAGE_LINES && through_pager(reply).is_ok() {
        return;
    }
    print!("{reply}");
    let _ = std::io::stdout().flush();
}

fn through_pager(reply: &str) -> std::io::Result<()> {
    let program = std::env::var("PAGER").unwrap_or_else(|_| "less".to_owned());
    let mut child = Command::new(program).arg("-FRX").stdin(Stdio::piped()).spawn()?;
    if let Some(stdin) = &mut child.stdin {
        // A reader that quits early breaks the pipe; that is no error.
        let _ = stdin.write_all(reply.as_bytes());
    }
    child.wait().map(|_| ())
}
