//! The text of an address.

use antiphon_wire::Address;

/// The text of an address.
pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(address) = text.parse::<Address>()
    {
        assert_eq!(
            address.to_string().parse::<Address>().as_ref(),
            Ok(&address),
            "an address is read as it is printed"
        );
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = ["antiphon://h:7400", "antiphon://", "antiphon://[::1]:7400", "antiphon://h:99999", "h:1", "/"];
    texts
        .iter()
        .chain(&["antiphon+unix:///a b", "antiphon+tls://h", "unix:/s"])
        .map(|text| text.as_bytes().to_vec())
        .collect()
}
