//! A public key of minisign: whose signatures of plugins are trusted. Verifies nothing.

use base64::Engine as _;

/// A key as it was read, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// The key's number, as minisign prints it.
    pub id: String,
    /// The key itself.
    pub key: minisign_verify::PublicKey,
}

impl PublicKey {
    /// Reads a key: the line of base64 that minisign prints, or the file that it writes, whose first line is a comment.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(COMMENT));
        let line = lines.next().filter(|_| lines.next().is_none())?;
        let key = minisign_verify::PublicKey::from_base64(line).ok()?;
        Some(Self { id: key_id(line)?, key })
    }
}

/// How the first line of minisign's files begins.
const COMMENT: &str = "untrusted comment:";

/// The key's number in a line of base64, be it a public key or a signature, as minisign prints it.
pub fn key_id(line: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(line.trim()).ok()?;
    // Two bytes of algorithm come first; the number is little-endian.
    let id: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    #[test]
    fn a_key_is_a_line_or_a_file() {
        let id = |text: &str| PublicKey::parse(text).map(|key| key.id);
        let expected = Some("E7620F1842B4E81F".to_owned());
        assert_eq!(id(LINE), expected);
        let file = format!("untrusted comment: minisign public key E7620F1842B4E81F\n{LINE}\n");
        assert_eq!(id(&file), expected);
        assert_eq!(id(&file.replace('\n', "\r\n")), expected);
        for text in ["", "RWQf6LRC", &LINE[1..], &format!("{LINE}\n{LINE}"), &LINE.replace("RWQ", "QWQ")] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
