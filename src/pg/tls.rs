//! x
/// x
pub(super) fn explain(e: &rustls::Error) -> String {
    e.to_string()
}
