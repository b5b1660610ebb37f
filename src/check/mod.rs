//! `pgshift check`.
