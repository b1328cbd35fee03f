//! Models in several files.

use std::path::{Path, PathBuf};

use gptoss_gguf::{Gguf, Progress, SplitError, SplitInfo, arrange_parts, parse, part_names, part_paths, split_name};

use crate::parse_whole;
use crate::writer::{I32, U16, Writer, writer};

#[test]
fn split_keys_as_llama_cpp_writes_them() {
    let file = writer().pair("split.no", U16, &1u16.to_le_bytes()).pair("split.count", U16, &3u16.to_le_bytes()).pair(
        "split.tensors.count",
        I32,
        &459i32.to_le_bytes(),
    );
    let split = parse_whole(&file.bytes()).unwrap().split();
    assert_eq!(split, Some(SplitInfo { no: 1, count: 3, tensors_count: 459 }));
}

#[test]
fn a_whole_file_is_no_split() {
    assert_eq!(parse_whole(&writer().bytes()).unwrap().split(), None);
    assert_eq!(parse_whole(&writer().u32("split.count", 0).bytes()).unwrap().split(), None);
}

#[test]
fn split_names() {
    assert_eq!(split_name("x-00001-of-00003.gguf"), Some(("x", 1, 3)));
    assert_eq!(split_name("gpt-oss-120b-mxfp4-00003-of-00003.gguf"), Some(("gpt-oss-120b-mxfp4", 3, 3)));
    assert_eq!(split_name("a-00001-of-00002-00002-of-00002.gguf"), Some(("a-00001-of-00002", 2, 2)));
    assert_eq!(split_name("x-100000-of-123456.gguf"), Some(("x", 100_000, 123_456)));
    for other in [
        "x.gguf",
        "x-00000-of-00003.gguf",
        "x-00004-of-00003.gguf",
        "x-1-of-3.gguf",
        "x-00001-of-00003.bin",
        "-00001-of-00003.gguf",
        "x-0000a-of-00003.gguf",
        "x-+0001-of-00003.gguf",
        "x-000001-of-00003.gguf",
        "x-00001-of-99999999999.gguf",
        "",
    ] {
        assert_eq!(split_name(other), None, "{other}");
    }
}

#[test]
fn one_name_tells_all() {
    let three = ["d/x-00001-of-00003.gguf", "d/x-00002-of-00003.gguf", "d/x-00003-of-00003.gguf"].map(PathBuf::from);
    for path in &three {
        assert_eq!(part_paths(path), three);
    }
    assert_eq!(part_names("x-00001-of-00001.gguf"), ["x-00001-of-00001.gguf"]);
    for other in ["d/x.gguf", "..", "x-00001-of-99999999.gguf"] {
        assert_eq!(part_paths(Path::new(other)), [Path::new(other)]);
    }
}

#[test]
fn files_given_in_any_order_are_arranged() {
    let names = ["x-00003-of-00003.gguf", "x-00001-of-00003.gguf", "x-00002-of-00003.gguf"];
    assert_eq!(arrange_parts(&names), Ok(vec![1, 2, 0]));
    assert_eq!(arrange_parts(&["anything"]), Ok(vec![0]), "one file is judged by its header");
    let refused = |names: &[&str], words: &[&str]| {
        let message = arrange_parts(names).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    refused(&names[..2], &["x-00003-of-00003.gguf", "missing", "x-00002-of-00003.gguf"]);
    refused(&["x-00001-of-00002.gguf", "y.gguf"], &["y.gguf is not named like a part"]);
    refused(&["x-00001-of-00002.gguf", "y-00002-of-00002.gguf"], &["y-00002-of-00002.gguf", "not parts of one model"]);
    refused(&["x-00001-of-00002.gguf", "x-00002-of-00003.gguf"], &["x-00002-of-00003.gguf", "not parts of one model"]);
    refused(&["x-00001-of-00002.gguf", "x-00001-of-00002.gguf"], &["x-00001-of-00002.gguf was given twice"]);
}

/// A part of `count` with one tensor of 32 bytes for each of `tensors`.
fn part(no: u16, count: u16, told: i32, tensors: &[&str]) -> Writer {
    let mut file = writer()
        .pair("split.no", U16, &no.to_le_bytes())
        .pair("split.count", U16, &count.to_le_bytes())
        .pair("split.tensors.count", I32, &told.to_le_bytes());
    if no == 0 {
        file = file.str("general.architecture", "gpt-oss");
    }
    for (offset, name) in (0..).step_by(32).zip(tensors) {
        file = file.tensor(name, &[8], 0, offset);
    }
    file.data(32 * tensors.len())
}

fn join(files: &[Writer]) -> Result<Gguf, SplitError> {
    let header = |(no, file): (usize, &Writer)| {
        (format!("m-{:05}-of-{:05}.gguf", no + 1, files.len()), parse_whole(&file.bytes()).unwrap())
    };
    Gguf::join(files.iter().enumerate().map(header).collect())
}

fn three() -> [Writer; 3] {
    [part(0, 3, 4, &["a", "b"]), part(1, 3, 4, &["c"]), part(2, 3, 4, &["d"])]
}

#[test]
fn joined_parts_are_one_file_after_the_other() {
    let lens = three().map(|file| file.bytes().len() as u64);
    let own = three().map(|file| parse_whole(&file.bytes()).unwrap());
    let joined = join(&three()).unwrap();
    assert_eq!(joined.file_len, lens.iter().sum::<u64>());
    assert_eq!(joined.split(), None);
    assert_eq!(joined.metadata.str("general.architecture").unwrap(), "gpt-oss");
    let names: Vec<_> = joined.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    for (name, part, base) in [("a", 0, 0), ("b", 0, 0), ("c", 1, lens[0]), ("d", 2, lens[0] + lens[1])] {
        let (tensor, own) = (joined.tensor(name).unwrap(), own[part].tensor(name).unwrap());
        assert_eq!((tensor.offset, tensor.size_bytes), (own.offset + base, own.size_bytes), "{name}");
    }
    let whole = writer().str("general.architecture", "gpt-oss").tensor("a", &[8], 0, 0).data(32);
    assert_eq!(join(&[whole]).unwrap().tensors.len(), 1, "a model in one file stays as it is");
    assert_eq!(join(&[part(0, 1, 1, &["a"])]).unwrap().tensors.len(), 1, "and so does one part of one");
}

#[test]
fn parts_that_do_not_belong_together_are_refused_by_name() {
    let [one, two, third] = ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"];
    let refused = |change: &dyn Fn(&mut [Writer; 3]), words: &[&str]| {
        let mut files = three();
        change(&mut files);
        let message = join(&files).unwrap_err().to_string();
        assert!(words.iter().all(|word| message.contains(word)), "{words:?} in {message}");
    };
    refused(&|files| files.swap(1, 2), &[two, "part 3 of 3, expected part 2 of 3"]);
    refused(&|files| files[1] = part(1, 2, 4, &["c"]), &[two, "part 2 of 2, expected part 2 of 3"]);
    refused(&|files| files[2] = part(2, 3, 9, &["d"]), &[third, "another model than m-00001", "9", "expected 4"]);
    refused(&|files| files[2] = part(2, 3, 4, &["b"]), &["\"b\"", one, third, "not parts of one model"]);
    refused(&|files| files[2] = part(2, 3, 4, &[]), &["3 tensors together, expected 4"]);
    refused(&|files| files[2] = part(2, 3, 4, &["d", "e"]), &["5 tensors together, expected 4"]);
    refused(&|files| files[1] = writer(), &[two, "not a part of a split model"]);
    let other = || part(1, 3, 4, &["c"]).str("general.architecture", "llama");
    refused(&|files| files[1] = other(), &[two, "another model", "general.architecture"]);
    assert_eq!(join(&[]), Err(SplitError::NoParts));
}

#[test]
fn a_part_alone_says_what_is_missing() {
    let alone = |name: &str| {
        let header = parse_whole(&part(1, 3, 4, &["c"]).bytes()).unwrap();
        Gguf::join(vec![(name.to_owned(), header)]).unwrap_err()
    };
    let missing = ["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"].map(str::to_owned).to_vec();
    let name = "m-00002-of-00003.gguf".to_owned();
    assert_eq!(alone(&name), SplitError::Missing { name, count: 3, missing });
    let renamed = alone("model.gguf").to_string();
    assert!(renamed.contains("model.gguf says that it is part 2 of 3"), "{renamed}");
}

/// The lengths that hosts claim are believed nowhere.
#[test]
fn lengths_that_cannot_be_added_are_refused() {
    let files = [part(0, 2, 2, &["a"]), part(1, 2, 2, &["b"])];
    let header = |file: &Writer| match parse(&file.bytes(), u64::MAX).unwrap() {
        Progress::Ready(gguf) => ("m".to_owned(), *gguf),
        Progress::NeedMore { at_least } => panic!("{at_least} bytes were asked for"),
    };
    assert!(matches!(Gguf::join(files.iter().map(header).collect()), Err(SplitError::TooLong { .. })));
}
