//! What a vocabulary must have, and how its faults are named. The vocabularies are made here, byte by byte.

use gptoss_text::{Special, Tokenizer, TokenizerError};

const NORMAL: i32 = 1;
const CONTROL: i32 = 3;

/// A GGUF's tokenizer arrays.
struct Arrays {
    tokens: Vec<String>,
    types: Vec<i32>,
    merges: Vec<String>,
}

impl Arrays {
    /// All bytes and Harmony's specials, in an order unlike that of any real vocabulary.
    fn bytes_and_specials() -> Arrays {
        let mut arrays = Arrays { tokens: vec![], types: vec![], merges: vec![] };
        for special in Special::ALL.into_iter().rev() {
            arrays.add(special.name(), CONTROL);
        }
        // Bytes that print as themselves, then the others at U+0100 and on.
        let is_printable = |code: &u32| matches!(code, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
        let others = (0..256_u32).filter(|code| !is_printable(code)).count() as u32;
        for code in (0..256_u32).filter(is_printable).chain(0x100..0x100 + others) {
            arrays.add(&char::from_u32(code).unwrap().to_string(), NORMAL);
        }
        arrays
    }

    fn add(&mut self, token: &str, token_type: i32) -> u32 {
        self.tokens.push(token.to_owned());
        self.types.push(token_type);
        self.tokens.len() as u32 - 1
    }

    fn merge(&mut self, left: &str, right: &str) -> u32 {
        self.merges.push(format!("{left} {right}"));
        self.add(&format!("{left}{right}"), NORMAL)
    }

    fn position(&self, token: &str) -> u32 {
        self.tokens.iter().position(|t| t == token).unwrap() as u32
    }

    fn build(&self) -> Result<Tokenizer, TokenizerError> {
        Tokenizer::new(&self.tokens, &self.types, &self.merges)
    }

    fn error(&self) -> TokenizerError {
        self.build().expect_err("the vocabulary has a fault")
    }
}

#[test]
fn merges_are_taken_in_their_order() {
    let mut arrays = Arrays::bytes_and_specials();
    let bc = arrays.merge("b", "c");
    let ab = arrays.merge("a", "b");
    let aa = arrays.merge("a", "a");
    let (a, c) = (arrays.position("a"), arrays.position("c"));
    let tokenizer = arrays.build().unwrap();
    assert_eq!(tokenizer.encode_ordinary("abc"), [a, bc], "the earlier merge wins");
    assert_eq!(tokenizer.encode_ordinary("ab"), [ab]);
    assert_eq!(tokenizer.encode_ordinary("aaa"), [aa, a], "of equals the leftmost");
    assert_eq!(tokenizer.encode_ordinary("aaaab"), [aa, a, ab], "ab comes before aa");
    assert_eq!(tokenizer.encode_ordinary("cab"), [c, ab]);
}

/// o200k lists every pair that spells a token; all of them lead to it, and a repeated line changes nothing.
#[test]
fn a_token_may_have_several_merges() {
    let mut arrays = Arrays::bytes_and_specials();
    let (ab, bc) = (arrays.add("ab", NORMAL), arrays.add("bc", NORMAL));
    let (abc, abcd) = (arrays.add("abc", NORMAL), arrays.add("abcd", NORMAL));
    arrays.merges = ["b c", "a bc", "ab c", "a b", "abc d", "b c"].map(str::to_owned).to_vec();
    let tokenizer = arrays.build().unwrap();
    let (c, x) = (arrays.position("c"), arrays.position("x"));
    assert_eq!(tokenizer.encode_ordinary("xabcd"), [x, abcd], "by bc, then abc");
    assert_eq!(tokenizer.encode_ordinary("xabxbcxcxabc"), [x, ab, x, bc, x, c, x, abc]);
}

#[test]
fn a_missing_special_is_named() {
    for special in Special::ALL {
        let mut arrays = Arrays::bytes_and_specials();
        let at = arrays.position(special.name()) as usize;
        arrays.tokens[at] = "<|other|>".to_owned();
        assert_eq!(arrays.error(), TokenizerError::MissingSpecial { name: special.name() });
        assert!(arrays.error().to_string().contains(special.name()));
        // The same name as normal text is not a special.
        let mut arrays = Arrays::bytes_and_specials();
        arrays.types[at] = NORMAL;
        assert_eq!(arrays.error(), TokenizerError::MissingSpecial { name: special.name() });
    }
}

#[test]
fn faults_are_named() {
    let faulty = |change: &dyn Fn(&mut Arrays)| {
        let mut arrays = Arrays::bytes_and_specials();
        change(&mut arrays);
        arrays.error()
    };
    let next = Arrays::bytes_and_specials().tokens.len() as u32;
    let count = next as usize;

    assert_eq!(faulty(&|a| a.types.push(1)), TokenizerError::TypeCount { tokens: count, types: count + 1 });
    assert_eq!(faulty(&|a| a.types.truncate(5)), TokenizerError::TypeCount { tokens: count, types: 5 });
    assert_eq!(
        faulty(&|a| _ = a.add("<0x41>", 6)),
        TokenizerError::TokenType { id: next, token: "<0x41>".to_owned(), token_type: 6 }
    );
    assert_eq!(
        faulty(&|a| _ = a.add("two words", NORMAL)),
        TokenizerError::Alphabet { id: next, token: "two words".to_owned(), character: ' ' }
    );
    assert_eq!(faulty(&|a| _ = a.add("", NORMAL)), TokenizerError::EmptyToken { id: next });
    assert_eq!(faulty(&|a| _ = a.add("", CONTROL)), TokenizerError::EmptyToken { id: next });
    let first = Arrays::bytes_and_specials().position("a");
    assert_eq!(faulty(&|a| _ = a.add("a", NORMAL)), TokenizerError::Duplicate { first, second: next });
    let first = Arrays::bytes_and_specials().position("<|end|>");
    assert_eq!(
        faulty(&|a| _ = a.add("<|end|>", CONTROL)),
        TokenizerError::DuplicateSpecial { name: "<|end|>".to_owned(), first, second: next }
    );
    let newline = |a: &mut Arrays| {
        let at = a.position("Ċ") as usize;
        a.types[at] = 5;
    };
    assert_eq!(faulty(&newline), TokenizerError::MissingByte { byte: b'\n' });
}

#[test]
fn unusable_merges_are_named() {
    for (merge, reason) in [
        ("ab", "two tokens separated by a space"),
        ("a b c", "right half is not in the byte alphabet"),
        ("aa b", "left half is not a token"),
        ("a bb", "right half is not a token"),
        ("a b", "what it makes is not a token"),
    ] {
        let mut arrays = Arrays::bytes_and_specials();
        arrays.merge("x", "y");
        arrays.merges.push(merge.to_owned());
        let error = arrays.error();
        assert!(matches!(&error, TokenizerError::Merge { index: 1, merge: m, .. } if m == merge), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn unused_ids_stand_for_nothing() {
    let mut arrays = Arrays::bytes_and_specials();
    let unused = arrays.add("[PAD]", 5);
    let tokenizer = arrays.build().unwrap();
    assert_eq!(tokenizer.token_bytes(unused), Ok(&b""[..]));
    assert!(!tokenizer.is_special(unused));
    assert_eq!(tokenizer.decode(&[unused, arrays.position("a")]).unwrap(), "a");
}

#[test]
fn the_longest_special_is_taken() {
    let mut arrays = Arrays::bytes_and_specials();
    let short = arrays.add("<tag", CONTROL);
    let long = arrays.add("<tag>é", 4);
    let other = arrays.add("<tag>z", CONTROL);
    let tokenizer = arrays.build().unwrap();
    let a = arrays.position("a");
    let greater = arrays.position(">");
    assert_eq!(tokenizer.encode_with_specials("a<tag>éa"), [a, long, a]);
    assert_eq!(tokenizer.encode_with_specials("<tag>a"), [short, greater, a]);
    assert_eq!(tokenizer.encode_with_specials("<tag>z<tag"), [other, short]);
    // The second byte of é, where a character of a name would be cut.
    assert_eq!(tokenizer.encode_with_specials("<tag>è")[0], short);
    assert!(tokenizer.encode_ordinary("<tag>é").iter().all(|&id| !tokenizer.is_special(id)));
}
