//! (in construction)

pub mod forms;
pub mod inverse;
pub mod locks;
pub mod safe;
#[cfg(test)]
pub(crate) mod testing;
pub mod work;
