//! An invitation as people carry it: `oob:join:` and base64url of an [`InviteLink`] with a checksum, so that a link cut
//! short by a mail program is called damaged and not refused as forged.

use crate::{OrgId, limits, wire::InviteLink};
use data_encoding::BASE64URL_NOPAD;
use prost::Message;

/// What every link starts with.
pub const PREFIX: &str = "oob:join:";

/// Bytes of checksum: one in four thousand million damaged links passes, and its signatures fail then.
const SUM: usize = 4;

/// Why a text is not an invitation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Something else than a link.
    #[error("not an invitation: it does not start with {PREFIX}")]
    Prefix,
    /// Cut short or altered on its way.
    #[error("the invitation is damaged: its checksum does not fit")]
    Damaged,
    /// Over [`limits::LINK_BYTES`].
    #[error("the invitation has {len} bytes, at most {} are allowed", limits::LINK_BYTES)]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The checksum fits, the content does not.
    #[error("the invitation cannot be read")]
    Malformed,
}

/// Writes a link as text. `sum` is the first bytes of a hash over the encoded link, given by whoever may hash.
pub fn to_text(link: &InviteLink, sum: impl Fn(&[u8]) -> [u8; 32]) -> String {
    let mut bytes = link.encode_to_vec();
    let hash = sum(&bytes);
    bytes.extend(hash.iter().take(SUM));
    format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
}

/// Reads a link; white space inside, as mail programs add, is passed over.
///
/// # Errors
/// See [`LinkError`].
pub fn from_text(text: &str, sum: impl Fn(&[u8]) -> [u8; 32]) -> Result<InviteLink, LinkError> {
    let longest = limits::LINK_BYTES.saturating_mul(2);
    if text.len() > longest {
        return Err(LinkError::TooLong { len: text.len() });
    }
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let encoded = text.strip_prefix(PREFIX).ok_or(LinkError::Prefix)?;
    let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).map_err(|_| LinkError::Damaged)?;
    let (body, found) = bytes.split_last_chunk::<SUM>().ok_or(LinkError::Damaged)?;
    if body.len() > limits::LINK_BYTES {
        return Err(LinkError::TooLong { len: body.len() });
    }
    if !sum(body).starts_with(found) {
        return Err(LinkError::Damaged);
    }
    let link = InviteLink::decode(body).map_err(|_| LinkError::Malformed)?;
    if link.org_id.len() != OrgId::LEN || link.secret.len() != 32 || link.ops.is_empty() {
        return Err(LinkError::Malformed);
    }
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Op;

    /// Not a hash anybody should use; what is tested here is the form around it.
    fn sum(bytes: &[u8]) -> [u8; 32] {
        let mut out = [0u8; 32];
        for (i, b) in bytes.iter().enumerate() {
            out[i % 4] = out[i % 4].wrapping_mul(31).wrapping_add(*b);
        }
        out
    }

    fn link() -> InviteLink {
        InviteLink {
            org_id: vec![1; 32],
            secret: vec![2; 32],
            ops: vec![Op::default()],
            addresses: vec!["/ip4/10.0.0.1/tcp/1".into()],
        }
    }

    #[test]
    fn a_link_reads_back_also_when_a_mail_program_wrapped_it() {
        let text = to_text(&link(), sum);
        assert_eq!(from_text(&text, sum).unwrap(), link());
        let wrapped: String = text
            .chars()
            .enumerate()
            .flat_map(|(i, c)| if i % 60 == 59 { vec!['\n', c] } else { vec![c] })
            .collect();
        assert_eq!(from_text(&format!(" {wrapped}\r\n"), sum).unwrap(), link());
    }

    #[test]
    fn a_link_cut_short_or_altered_is_called_damaged() {
        let text = to_text(&link(), sum);
        assert!(matches!(from_text(&text[..text.len() - 5], sum), Err(LinkError::Damaged)));
        let mut altered = text.clone().into_bytes();
        altered[20] = if altered[20] == b'A' { b'B' } else { b'A' };
        assert!(matches!(
            from_text(std::str::from_utf8(&altered).unwrap(), sum),
            Err(LinkError::Damaged)
        ));
        assert!(matches!(from_text("https://example.org", sum), Err(LinkError::Prefix)));
        assert!(matches!(from_text(&"x".repeat(1 << 20), sum), Err(LinkError::TooLong { .. })));
    }
}
