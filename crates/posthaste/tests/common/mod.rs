//! What the tests of the real binary share: a server in a folder of its own, a sink, a small SMTP client, waiting.
//!
//! Ports come from the system: the server is told port 0 and says on standard output what it got.

#![allow(dead_code)] // each test file uses its part

pub mod next_hop;
pub mod postfix;
pub mod strain;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// The longest that any test waits for something to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running `posthaste run`. Killed when dropped.
pub struct Server {
    child: Child,
    pub dir: PathBuf,
    _keep: Option<tempfile::TempDir>,
    listening: Vec<(String, SocketAddr)>,
}

/// What a configuration starts from: a spool, a control socket and logs in the test's folder. `extra` follows; in it `@dir@`
/// is that folder.
pub fn base_config(dir: &Path, extra: &str) -> String {
    let dir = dir.display();
    let extra = extra.replace("@dir@", &dir.to_string());
    format!(
        "hostname = mx.test\n\
         SpoolBase = \"{dir}/spool\"\n\
         Control_Listener {{ Listen \"{dir}/control\" {{ File_Mode = 0600 }} }}\n\
         ec_logger main {{ mainlog = \"{dir}/mainlog.ec\" rejectlog = \"{dir}/rejectlog.ec\" \
         paniclog = \"{dir}/paniclog.ec\" acctlog = \"{dir}/acctlog.ec\" }}\n\
         bounce_logger main {{ bouncelog = \"{dir}/bouncelog.ec\" }}\n\
         {extra}\n"
    )
}

impl Server {
    /// Starts with `base_config` and `extra` in a new folder; `files` are written beside the configuration first.
    pub fn start(extra: &str, files: &[(&str, &str)]) -> Server {
        let keep = tempfile::tempdir().expect("a folder for the test");
        let dir = keep.path().to_owned();
        for (name, text) in files {
            write(&dir.join(name), text);
        }
        write(&dir.join("posthaste.conf"), &base_config(&dir, extra));
        let mut server = Server::run(&dir);
        server._keep = Some(keep);
        server
    }

    /// Starts in a folder that has its configuration already: after a crash, or for one of the test's own.
    pub fn run(dir: &Path) -> Server {
        Server::try_run(dir).unwrap_or_else(|text| panic!("the server did not start:\n{text}"))
    }

    pub fn try_run(dir: &Path) -> Result<Server, String> {
        Server::try_run_as(Command::new(env!("CARGO_BIN_EXE_posthaste")), dir)
    }

    /// As `try_run`. `command` is the binary, or a program that becomes it.
    pub fn try_run_as(mut command: Command, dir: &Path) -> Result<Server, String> {
        command.args(["run", "--config"]).arg(dir.join("posthaste.conf"));
        Server::spawned(command, dir)
    }

    /// A command with all its arguments that becomes a server.
    pub fn spawned(mut command: Command, dir: &Path) -> Result<Server, String> {
        end_at_last();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(append(&dir.join("stderr"))))
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut listening = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line == "ready" => break,
                Ok(line) => {
                    if let Some((name, address)) = line.strip_prefix("listening ").and_then(|l| l.split_once(" on "))
                        && let Ok(address) = address.parse()
                    {
                        listening.push((name.to_owned(), address));
                    }
                }
                Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(std::fs::read_to_string(dir.join("stderr")).unwrap_or_default());
                }
            }
        }
        Ok(Server { child, dir: dir.to_owned(), _keep: None, listening })
    }

    /// The address of the first SMTP listener.
    pub fn smtp(&self) -> SocketAddr {
        self.listening.first().expect("the configuration has a listener").1
    }

    /// Whether it has any listener for mail.
    pub fn listens(&self) -> bool {
        !self.listening.is_empty()
    }

    /// The address of the n-th TCP listener, in the order of the configuration.
    pub fn listener(&self, at: usize) -> SocketAddr {
        self.listening[at].1
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.pid().to_string()]).status().expect("kill runs");
        assert!(status.success(), "kill {signal}");
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// TERM, and the exit code.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal("-TERM");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("wait works") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the server did not stop");
    }

    /// Runs one console command and returns its output.
    pub fn console(&self, command: &str) -> String {
        let mut console = Command::new(env!("CARGO_BIN_EXE_posthaste"));
        console.args(["console", "--socket"]).arg(self.dir.join("control")).args(["-c", command]);
        let output = finish(console);
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// Waits until a line of a log satisfies `wanted`, and returns it.
    pub fn wait_for_log(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait_for(&format!("a line in {name}"), || self.log(name).lines().find(|line| wanted(line)).map(str::to_owned))
    }

    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for name in ["stderr", "paniclog.ec", "rejectlog.ec", "mainlog.ec"] {
                let text = self.log(name);
                let tail: Vec<&str> = text.lines().rev().take(20).collect();
                eprintln!("--- {name} (last lines)\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
    }
}

/// Ends the test process if it is still there after a quarter of an hour: a test that hangs must fail, and say so, before
/// whoever runs the tests loses patience with all of them.
pub fn end_at_last() {
    static GUARD: std::sync::Once = std::sync::Once::new();
    GUARD.call_once(|| {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_secs(900));
            if !strain::soak() {
                // Past the capture of a test's output.
                let _ = writeln!(std::io::stderr(), "the tests of this file hang: ending them");
                std::process::abort();
            }
        });
    });
}

/// Runs a program to its end. Its output goes into files: a daemon that it leaves behind may hold a pipe open for ever, and
/// whoever reads that pipe to its end waits as long.
pub fn finish(mut command: Command) -> std::process::Output {
    let [mut stdout, mut stderr] = [(); 2].map(|()| tempfile::tempfile().expect("a temporary file"));
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().expect("a second handle"));
    command.stderr(stderr.try_clone().expect("a second handle"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + 2 * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait works") {
            break Some(status);
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let [stdout, stderr] = [&mut stdout, &mut stderr].map(|file| {
        let mut text = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut text)).expect("the output can be read");
        text
    });
    let Some(status) = status else {
        panic!("{command:?} did not end; it said: {} {}", lossy(&stdout), lossy(&stderr));
    };
    std::process::Output { status, stdout, stderr }
}

fn lossy(text: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(text)
}

/// Polls until there is something. Used where only another process can tell.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn write(path: &Path, text: &str) {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).expect("the folder can be made");
    }
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn append(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().create(true).append(true).open(path).expect("the file can be opened")
}

/// A client that says what it is told and reads replies.
pub struct Client {
    stream: BufReader<Wire>,
}

/// What a client talks through.
enum Wire {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
    /// Between the two.
    Gone,
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(into),
            Wire::Tls(stream) => stream.read(into),
            Wire::Gone => Ok(0),
        }
    }
}

impl Wire {
    fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.write_all(bytes),
            Wire::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Wire::Gone => Ok(()),
        }
    }
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(to: SocketAddr) -> (Client, String) {
        let mut client = Client::silent(to);
        let greeting = client.reply();
        (client, greeting)
    }

    /// Connects and reads nothing yet.
    pub fn silent(to: SocketAddr) -> Client {
        Client::of(TcpStream::connect(to).expect("the server accepts"))
    }

    /// Connects from a given address (any of 127.0.0.0/8 will do) and reads the greeting.
    pub fn connect_from(from: &str, to: SocketAddr) -> (Client, String) {
        let mut client = Client::silent_from(from, to);
        let greeting = client.reply();
        (client, greeting)
    }

    /// Connects from a given address and reads nothing yet.
    pub fn silent_from(from: &str, to: SocketAddr) -> Client {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None).expect("a socket");
        let from: IpAddr = from.parse().expect("an address");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("the address is ours");
        socket.connect(&to.into()).expect("the server accepts");
        Client::of(socket.into())
    }

    /// Connects, reads the greeting, says EHLO.
    pub fn hello(to: SocketAddr) -> Client {
        let (mut client, greeting) = Client::connect(to);
        assert!(greeting.starts_with("220"), "greeting: {greeting:?}");
        let reply = client.command("EHLO client.test");
        assert!(reply.starts_with("250"), "EHLO: {reply}");
        client
    }

    fn of(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        stream.set_nodelay(true).expect("no delay can be set");
        Client { stream: BufReader::new(Wire::Plain(stream)) }
    }

    /// The handshake, after the server's 220 to STARTTLS or at the start where TLS is implicit. Checks no certificate.
    pub fn start_tls(&mut self) {
        self.start_tls_as(client_tls());
    }

    /// As `start_tls`, with versions, suites and a certificate of the test's own.
    pub fn start_tls_as(&mut self, config: Arc<rustls::ClientConfig>) {
        let Wire::Plain(stream) = std::mem::replace(self.stream.get_mut(), Wire::Gone) else {
            panic!("TLS is on already")
        };
        let name = ServerName::try_from("mx.test").expect("a name");
        let connection = rustls::ClientConnection::new(config, name).expect("a TLS client");
        *self.stream.get_mut() = Wire::Tls(Box::new(rustls::StreamOwned::new(connection, stream)));
    }

    /// The certificate that the server showed.
    pub fn server_certificate(&self) -> CertificateDer<'static> {
        let Wire::Tls(stream) = self.stream.get_ref() else { panic!("TLS is not on") };
        let chain = stream.conn.peer_certificates().expect("the server showed one");
        chain[0].clone().into_owned()
    }

    /// Our end of the connection.
    pub fn local_addr(&self) -> SocketAddr {
        match self.stream.get_ref() {
            Wire::Plain(stream) => stream.local_addr(),
            Wire::Tls(stream) => stream.sock.local_addr(),
            Wire::Gone => panic!("no connection"),
        }
        .expect("a local address")
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends bytes to a server that may have closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// Closes our half of the connection.
    pub fn finish(&mut self) {
        if let Wire::Plain(stream) = self.stream.get_ref() {
            let _ = stream.shutdown(std::net::Shutdown::Write);
        }
    }

    /// Whether the server says something within this time.
    pub fn hears_within(&mut self, time: Duration) -> bool {
        if !self.stream.buffer().is_empty() {
            return true;
        }
        let Wire::Plain(stream) = self.stream.get_ref() else { panic!("only in clear") };
        stream.set_read_timeout(Some(time)).expect("a timeout can be set");
        let heard = stream.peek(&mut [0]).is_ok();
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        heard
    }

    /// One reply, its lines joined by `\n`; empty at the end of the stream.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap_or(0) == 0 {
                return reply;
            }
            let line = line.trim_end_matches("\r\n");
            reply.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// A command and its reply.
    pub fn command(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n"));
        self.reply()
    }

    /// EHLO, and a whole message; returns the reply to its end.
    pub fn deliver(&mut self, from: &str, to: &[&str], content: &str) -> String {
        let reply = self.command(&format!("MAIL FROM:<{from}>"));
        assert!(reply.starts_with("250"), "MAIL: {reply}");
        for recipient in to {
            let reply = self.command(&format!("RCPT TO:<{recipient}>"));
            assert!(reply.starts_with("250"), "RCPT {recipient}: {reply}");
        }
        let reply = self.command("DATA");
        assert!(reply.starts_with("354"), "DATA: {reply}");
        // RFC 5321 section 4.5.2: a line that begins with a dot gets one more.
        let stuffed = format!("\n{content}").replace("\n.", "\n..").replace('\n', "\r\n");
        self.send(&stuffed[2..]);
        self.command("\r\n.")
    }

    /// Everything until the server closes.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// TLS that takes any certificate: the tests make their own.
pub fn client_tls() -> Arc<rustls::ClientConfig> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = rustls::ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Debug)]
struct AnyCertificate;

impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A certificate for `mx.test` and its key, as PEM.
pub fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["mx.test".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// TLS for a server of the test's own, with a certificate for `next.test`.
pub fn server_tls() -> Arc<rustls::ServerConfig> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let made = rcgen::generate_simple_self_signed(vec!["next.test".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("certificate and key belong together");
    Arc::new(config)
}

/// Runs the binary to its end.
pub fn posthaste(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_posthaste"));
    command.args(arguments);
    finish(command)
}

/// Whether a regular expression matches; `ID` stands for a message id.
pub fn matches(pattern: &str, text: &str) -> bool {
    let pattern = pattern.replace("ID", "[0-9A-F]{2}/[0-9A-F]{2}-\\d{5}-[0-9A-F]{8}");
    let pattern = pcre2::bytes::Regex::new(&pattern).expect("a pattern");
    pattern.is_match(text.as_bytes()).expect("a match")
}

/// Fails with both when the text does not match.
pub fn assert_matches(pattern: &str, text: &str) {
    assert!(matches(pattern, text), "{text:?}\n  does not match\n{pattern}");
}

/// A message with the usual header.
pub fn letter(subject: &str, body: &str) -> String {
    format!(
        "From: Ann <ann@sender.test>\nTo: Bob <bob@rcpt.test>\nSubject: {subject}\n\
         Date: Wed, 25 Nov 2026 10:00:00 +0000\nMessage-ID: <{}@sender.test>\n\n{body}",
        subject.replace(' ', ".")
    )
}
