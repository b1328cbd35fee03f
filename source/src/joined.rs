use std::rc::Rc;

use crate::{Bytes, Place, ReadFuture, Source, SourceError, check_bounds};

/// The outcome of opening a file.
pub type OpenOutcome = Result<Rc<dyn Source>, SourceError>;

/// Several files that read as one, each behind the one before; used for split models.
pub struct JoinedSource {
    name: String,
    identity: String,
    parts: Vec<Rc<dyn Source>>,
    /// Where each part ends, in bytes from the start of the first.
    ends: Vec<u64>,
}

impl JoinedSource {
    /// Joins files in the order given. In messages the first one's name stands for all.
    pub fn new(parts: Vec<Rc<dyn Source>>) -> Self {
        let first = parts.first().map_or("no file", |part| part.name());
        let name = match parts.len() {
            0 | 1 => first.to_owned(),
            count => format!("{first} and {} more", count - 1),
        };
        let identity = parts.iter().map(|part| part.identity()).collect::<Vec<_>>().join(" + ");
        let ends = parts.iter().scan(0u64, |end, part| {
            // A host may claim any length. Bytes beyond `u64::MAX` are out of bounds then.
            *end = end.saturating_add(part.len_bytes());
            Some(*end)
        });
        Self { name, identity, ends: ends.collect(), parts }
    }

    /// Makes one source of a model's files, each given with its name and the outcome of opening it: the file itself if
    /// there is one, a joined source for several.
    ///
    /// # Errors
    /// [`SourceError::PartsMissing`] lists all of several files that are not there; else the first error there is.
    pub fn of_opened(opened: Vec<(String, OpenOutcome)>) -> OpenOutcome {
        let is_missing = |outcome: &OpenOutcome| outcome.as_ref().err().is_some_and(SourceError::is_missing);
        let count = opened.len();
        if count > 1 && opened.iter().any(|(_, outcome)| is_missing(outcome)) {
            let there = opened.iter().find(|(_, outcome)| !is_missing(outcome)).or(opened.first());
            let name = there.map(|(name, _)| name.clone()).unwrap_or_default();
            let missing = opened.into_iter().filter(|(_, outcome)| is_missing(outcome)).map(|(name, _)| name).collect();
            return Err(SourceError::PartsMissing { name, count, missing });
        }
        let mut parts = opened.into_iter().map(|(_, outcome)| outcome).collect::<Result<Vec<_>, _>>()?;
        Ok(if count == 1 { parts.remove(0) } else { Rc::new(Self::new(parts)) })
    }

    /// The file that a byte is in, and where that file begins.
    fn part_at(&self, offset_bytes: u64) -> Option<(&Rc<dyn Source>, u64)> {
        let index = self.ends.partition_point(|&end| end <= offset_bytes);
        let part = self.parts.get(index)?;
        Some((part, self.ends[index] - part.len_bytes()))
    }

    async fn read_now(&self, offset_bytes: u64, len_bytes: u64) -> Result<Bytes, SourceError> {
        check_bounds(&self.name, offset_bytes, len_bytes, self.len_bytes())?;
        let first = self.ends.partition_point(|&end| end <= offset_bytes);
        let Some((part, begin)) = self.part_at(offset_bytes) else {
            return Ok(Bytes::from_vec(Vec::new())); // nothing, from the very end
        };
        if offset_bytes + len_bytes <= begin + part.len_bytes() {
            return part.read(offset_bytes - begin, len_bytes).await;
        }
        // Rare: no tensor crosses from one file into the next.
        let mut joined = Vec::with_capacity(len_bytes as usize);
        let (mut at, last) = (offset_bytes, offset_bytes + len_bytes);
        for (part, &end) in self.parts.iter().zip(&self.ends).skip(first) {
            let begin = end - part.len_bytes();
            let bytes = part.read(at - begin, last.min(end) - at).await?;
            joined.extend(bytes.to_vec(0..bytes.len()));
            at = end;
            if at >= last {
                break;
            }
        }
        Ok(Bytes::from_vec(joined))
    }
}

impl Source for JoinedSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn len_bytes(&self) -> u64 {
        self.ends.last().copied().unwrap_or(0)
    }

    fn identity(&self) -> &str {
        &self.identity
    }

    fn read(&self, offset_bytes: u64, len_bytes: u64) -> ReadFuture<'_> {
        Box::pin(self.read_now(offset_bytes, len_bytes))
    }

    fn requests(&self) -> u32 {
        self.parts.iter().map(|part| part.requests()).sum()
    }

    fn place(&self, offset_bytes: u64) -> Place {
        match self.part_at(offset_bytes) {
            Some((part, begin)) => part.place(offset_bytes - begin),
            None => Place { file: self.name.clone(), host: None, offset_bytes },
        }
    }

    fn distrust(&self, offset_bytes: u64) {
        if let Some((part, begin)) = self.part_at(offset_bytes) {
            part.distrust(offset_bytes - begin);
        }
    }

    fn wire_bytes(&self) -> Option<u64> {
        self.parts.iter().map(|part| part.wire_bytes()).sum()
    }

    fn parts(&self) -> &[Rc<dyn Source>] {
        &self.parts
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;
    use crate::MemorySource;

    /// The bytes 0 to 99 in files of 40, 0, 25 and 35.
    fn joined() -> JoinedSource {
        let bytes: Vec<u8> = (0..100).collect();
        let file = |name: &str, range: std::ops::Range<usize>| {
            Rc::new(MemorySource::new(name, bytes[range].to_vec())) as Rc<dyn Source>
        };
        JoinedSource::new(vec![file("a", 0..40), file("b", 40..40), file("c", 40..65), file("d", 65..100)])
    }

    #[test]
    fn every_range_is_what_one_file_would_give() {
        let source = joined();
        assert_eq!((source.name(), source.len_bytes(), source.parts().len()), ("a and 3 more", 100, 4));
        for offset in 0..=100u64 {
            for len in 0..=100 - offset {
                let got = pollster::block_on(source.read(offset, len)).expect("inside");
                let want: Vec<u8> = (offset as u8..(offset + len) as u8).collect();
                assert_eq!(got.as_slice(), want, "{offset}+{len}");
            }
        }
        assert!(source.identity().contains("memory a 40 bytes + ") && source.identity().ends_with("memory d 35 bytes"));
    }

    #[test]
    fn what_could_not_be_opened_is_named() {
        let there = |name: &str| Ok(Rc::new(MemorySource::new(name, vec![1])) as Rc<dyn Source>);
        let missing = |name: &str| Err(SourceError::NotFound { url: name.to_owned(), status: 404 });
        let forbidden = || Err(SourceError::Forbidden { url: "b".to_owned(), status: 403 });
        let of = |outcomes: Vec<OpenOutcome>| {
            let names = ["a", "b", "c"].map(str::to_owned);
            JoinedSource::of_opened(names.into_iter().zip(outcomes).collect())
        };
        assert_eq!(of(vec![there("a"), there("b")]).expect("both").parts().len(), 2);
        assert!(of(vec![there("a")]).expect("one").parts().is_empty());
        let error = of(vec![missing("a"), there("b"), missing("c")]).err().expect("two are missing");
        assert_eq!(error.to_string(), "b is one of the 3 files of a split model, and these are missing: a, c");
        assert!(matches!(of(vec![missing("a")]), Err(SourceError::NotFound { .. })));
        assert!(matches!(of(vec![there("a"), forbidden()]), Err(SourceError::Forbidden { .. })));
    }

    #[test]
    fn a_read_asks_only_the_files_that_it_is_in() {
        let source = joined();
        let requests = || source.parts().iter().map(|part| part.requests()).collect::<Vec<_>>();
        pollster::block_on(source.read(40, 25)).expect("inside");
        assert_eq!(requests(), [0, 0, 1, 0]);
        pollster::block_on(source.read(30, 20)).expect("inside");
        assert_eq!(requests()[2..], [2, 0]);
    }

    #[test]
    fn a_place_is_one_in_a_file() {
        let source = joined();
        let place = |offset| source.place(offset);
        for (offset, file, within) in
            [(0, "a", 0), (39, "a", 39), (40, "c", 0), (64, "c", 24), (65, "d", 0), (99, "d", 34)]
        {
            assert_eq!(place(offset), Place { file: file.to_owned(), host: None, offset_bytes: within }, "{offset}");
        }
        assert_eq!(place(100).offset_bytes, 100, "there is none");
    }

    #[test]
    fn reads_outside_are_refused_with_the_numbers_of_all() {
        let source = joined();
        for (offset, len) in [(96, 5), (101, 0), (u64::MAX, 2)] {
            let error = pollster::block_on(source.read(offset, len)).expect_err("outside");
            assert!(matches!(error, SourceError::OutOfBounds { file_bytes: 100, .. }), "{error}");
        }
        assert_eq!(JoinedSource::new(Vec::new()).len_bytes(), 0);
    }
}
