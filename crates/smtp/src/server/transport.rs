//! The connection under a session: the stream as it came, or TLS over it.

use super::handler::TlsFacts;
use crate::tls;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a TLS handshake may take.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) enum Transport<S> {
    Plain(S),
    Tls(Box<TlsStream<Prefixed<S>>>),
    /// A handshake failed: nothing is left to talk to.
    Gone,
}

/// A stream of which some bytes have been read already: what followed a PROXY header belongs to the handshake.
pub(super) struct Prefixed<S> {
    prefix: Vec<u8>,
    at: usize,
    stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Transport<S> {
    /// Turns the plain stream into TLS. `prefix`: what of the handshake was read already.
    pub async fn start_tls(&mut self, config: Arc<rustls::ServerConfig>, prefix: Vec<u8>) -> io::Result<TlsFacts> {
        let Transport::Plain(stream) = std::mem::replace(self, Transport::Gone) else {
            return Err(io::Error::other("TLS is on already"));
        };
        let stream = Prefixed { prefix, at: 0, stream };
        let accept = tls::watching_verification(TlsAcceptor::from(config).accept(stream));
        let Ok((accepted, verified)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, accept).await else {
            return Err(io::ErrorKind::TimedOut.into());
        };
        let stream = accepted?;
        let facts = tls::facts(stream.get_ref().1, verified);
        *self = Transport::Tls(Box::new(stream));
        Ok(facts)
    }

    pub fn is_plain(&self) -> bool {
        matches!(self, Transport::Plain(_))
    }

    /// Sends all of `out`, which is empty afterwards.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<io::Result<()>> {
        while !out.is_empty() {
            let sent = ready!(Pin::new(&mut *self).poll_write(cx, out))?;
            match sent {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                all if all == out.len() => out.clear(),
                part => drop(out.drain(..part)),
            }
        }
        // Of a plain socket there is nothing to flush.
        if self.is_plain() { Poll::Ready(Ok(())) } else { Pin::new(self).poll_flush(cx) }
    }

    /// Says that nothing more comes.
    pub async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut *self).poll_shutdown(cx)).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Transport<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Transport::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Transport::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.at == this.prefix.len() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let count = buf.remaining().min(this.prefix.len() - this.at);
        buf.put_slice(&this.prefix[this.at..this.at + count]);
        this.at += count;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
