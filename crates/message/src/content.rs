//! The content of a message: header block and body, lossless.
//!
//! What nobody edited is written back byte for byte; an edit of one header touches the bytes of that header only.
//! Content is *unstuffed*: no dot is doubled and no end-of-data mark is there. Lines end in CRLF save where a sender's
//! lone CR or LF was let through. `Clone` is cheap (shared bytes), so that N recipients cost one copy until one of them
//! is edited.

use bytes::Bytes;
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// A body that lies in a file (over `large_message_threshold`): never held whole in memory.
pub trait ExternalBody: Send + Sync + Debug {
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `into` from `offset`. Blocks: call it from a thread that may wait.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// The implementation's own type: the spool finds its file again by it.
    fn as_any(&self) -> &dyn std::any::Any;
}

#[derive(Clone, Debug)]
pub enum Body {
    Memory(Bytes),
    External(Arc<dyn ExternalBody>),
}

impl Body {
    pub fn len(&self) -> u64 {
        match self {
            Body::Memory(bytes) => bytes.len() as u64,
            Body::External(file) => file.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Header block and body of one message.
#[derive(Clone, Debug)]
pub struct Content {
    head: Bytes,
    body: Body,
}

impl Content {
    /// `head` is the header block with the blank line that ends it (if the message has one); `body` what follows.
    pub fn new(head: Bytes, body: Body) -> Content {
        Content { head, body }
    }

    pub fn head(&self) -> &Bytes {
        &self.head
    }

    pub fn body(&self) -> &Body {
        &self.body
    }

    pub fn size(&self) -> u64 {
        self.head.len() as u64 + self.body.len()
    }
}
