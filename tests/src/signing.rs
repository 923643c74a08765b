//! Keys and signatures in minisign's format, made here so that tests can sign what they build. The signatures are of the bytes
//! themselves, as minisign's older versions made them; those of a hash are tested with minisign's own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_compact::{KeyPair, Seed};

/// The algorithm's name in keys and signatures.
const ALGORITHM: &[u8; 2] = b"Ed";

/// A key that signs.
pub struct Key {
    pair: KeyPair,
    id: [u8; 8],
}

impl Key {
    /// A key; another one for each number.
    pub fn new(number: u8) -> Self {
        Self { pair: KeyPair::from_seed(Seed::new([number; 32])), id: [number; 8] }
    }

    /// The public key's line, as `public_keys` takes it.
    pub fn public(&self) -> String {
        STANDARD.encode([ALGORITHM, self.id.as_slice(), self.pair.pk.as_slice()].concat())
    }

    /// The text of a `.minisig` file for these bytes.
    pub fn sign(&self, bytes: &[u8]) -> String {
        let signature = self.pair.sk.sign(bytes, None);
        let comment = "timestamp:1769839200\tfile:plugin.wasm";
        let global = self.pair.sk.sign([signature.as_slice(), comment.as_bytes()].concat(), None);
        format!(
            "untrusted comment: signature of a test\n{}\ntrusted comment: {comment}\n{}\n",
            STANDARD.encode([ALGORITHM, self.id.as_slice(), signature.as_slice()].concat()),
            STANDARD.encode(global.as_slice()),
        )
    }
}
