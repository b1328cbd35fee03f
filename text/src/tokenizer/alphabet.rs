//! The alphabet in which byte-level BPE vocabularies are written down: one printable character per byte.
//!
//! Printable Latin-1 bytes stand for themselves; the other 68 bytes are U+0100, U+0101, … in byte order, so that
//! a space is written `Ġ` and a newline `Ċ`.

/// Characters U+0100.. that stand for the bytes which have no printable character of their own.
const REMAPPED: usize = 68;

const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The bytes that U+0100, U+0101, … stand for, in that order.
const REMAPPED_BYTES: [u8; REMAPPED] = {
    let mut bytes = [0; REMAPPED];
    let (mut byte, mut count) = (0, 0);
    while byte < 256 {
        if !is_printable(byte as u8) {
            bytes[count] = byte as u8;
            count += 1;
        }
        byte += 1;
    }
    assert!(count == REMAPPED);
    bytes
};

/// The byte that `character` stands for, or `None` when it is not in the alphabet.
pub(super) fn byte_of(character: char) -> Option<u8> {
    let code = character as usize;
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => REMAPPED_BYTES.get(code - 256).copied(),
    }
}

/// Appends the bytes that `written` stands for; on a character outside the alphabet returns it.
pub(super) fn decode_into(written: &str, bytes: &mut Vec<u8>) -> Result<(), char> {
    for character in written.chars() {
        bytes.push(byte_of(character).ok_or(character)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_exactly_one_character() {
        let mut seen = [0; 256];
        for code in 0..0x400 {
            if let Some(byte) = char::from_u32(code).and_then(byte_of) {
                seen[byte as usize] += 1;
            }
        }
        assert_eq!(seen, [1; 256]);
    }

    #[test]
    fn known_spellings() {
        // Spellings from the GPT-2 vocabulary: space, newline, tab, NUL, DEL, no-break space, soft hyphen.
        for (character, byte) in
            [('Ġ', b' '), ('Ċ', b'\n'), ('ĉ', b'\t'), ('Ā', 0), ('ġ', 0x7F), ('ł', 0xA0), ('Ń', 0xAD)]
        {
            assert_eq!(byte_of(character), Some(byte), "{character}");
        }
        assert_eq!(byte_of(' '), None);
        assert_eq!(byte_of('ń'), None);
        assert_eq!(byte_of('界'), None);
    }
}
