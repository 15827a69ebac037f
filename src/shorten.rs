//! Texts in the length that there is room for.

use std::borrow::Cow;

/// The text, or the beginning of it and `…`: so many bytes at most.
pub(crate) fn shortened(text: &str, bytes: usize) -> Cow<'_, str> {
    if text.len() <= bytes {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(bytes.saturating_sub('…'.len_utf8()));
    Cow::Owned(format!("{}…", &text[..end]))
}
