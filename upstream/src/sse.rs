//! Server-sent events out of bytes as they come.

/// No event of a completion is so long, whatever its prompt: beyond it, what comes is none.
const MOST_EVENT_BYTES: usize = 16 << 20;

/// Puts lines and events together.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// Bytes of a line that has not ended.
    line: Vec<u8>,
    /// Data of an event that has not ended.
    data: Option<String>,
}

/// An event that is none: too long, or no UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoEvent(pub &'static str);

impl Events {
    /// Takes more bytes. Gives the data of the events that they complete.
    ///
    /// # Errors
    /// The bytes are no events.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, NoEvent> {
        let mut events = Vec::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            let line = std::str::from_utf8(line).map_err(|_| NoEvent("bytes that are no UTF-8"))?;
            events.extend(self.take_line(line));
        }
        self.line.extend_from_slice(rest);
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held > MOST_EVENT_BYTES { Err(NoEvent("an event without an end")) } else { Ok(events) }
    }

    /// What is left when no more bytes come: an event whose last empty line is missing.
    pub fn finish(&mut self) -> Option<String> {
        self.data.take()
    }

    /// Takes a line. Gives the event that it ends. Names, ids and comments are of no interest.
    fn take_line(&mut self, line: &str) -> Option<String> {
        if line.is_empty() {
            return self.data.take();
        }
        if let Some(more) = line.strip_prefix("data:") {
            let more = more.strip_prefix(' ').unwrap_or(more);
            match &mut self.data {
                None => self.data = Some(more.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(more);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = ": hello\r\n\r\nevent: a\ndata: {\"é\": 1}\nid: 7\n\ndata:b\r\ndata: c\r\n\r\ndata: [DONE]\n\n";
        let want = ["{\"é\": 1}", "b\nc", "[DONE]"];
        for size in 1..text.len() {
            let mut events = Events::default();
            let got: Vec<String> =
                text.as_bytes().chunks(size).flat_map(|bytes| events.push(bytes).expect("events")).collect();
            assert_eq!(got, want, "{size} bytes at a time");
            assert_eq!(events.finish(), None);
        }
        let mut events = Events::default();
        assert_eq!(events.push(b"data: a\n"), Ok(Vec::new()));
        assert_eq!(events.finish().as_deref(), Some("a"));
    }

    #[test]
    fn what_is_no_event_is_found() {
        assert!(Events::default().push(b"data: \xff\n").is_err());
        let mut events = Events::default();
        let endless = vec![b'a'; 1 << 20];
        assert!((0..17).any(|_| events.push(&endless).is_err()), "a line without an end");
    }
}
