//! What RFC 9110 and RFC 9112 ask of a server of files, and what this project adds, as tables of requests against the
//! real program.
//!
//! The expectations were written from the specifications, not from the program. Every row names the section it comes
//! from ("project" where the project decides) and one of three levels:
//!
//! * `Must`: a MUST of that section, or a SHOULD without which range clients do not work (206 for a satisfiable range).
//! * `Should`: other advice of the RFCs.
//! * `Project`: where the RFCs leave a choice, ours.
//!
//! To check the tables themselves, the rows of level `Must` about plain files can be put to another server:
//!
//! ```text
//! GGUF_SERVE_RFC_PEER=http://127.0.0.1:8099 GGUF_SERVE_RFC_ROOT=/tmp/files cargo test -p gguf-serve --test rfc plain_
//! ```
//!
//! The files are written into that folder (which is made if it is missing), and the other server must serve it at `/`.

#![cfg(unix)] // the files include links
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod browsers;
mod catalogue;
mod conditions;
mod fixtures;
mod methods;
mod multipart;
mod names;
mod raw;
mod sequences;
mod several;
mod single;
mod support;
mod table;
mod wire;
