//! The tables of cases.

mod alter;
mod others;
mod outside;
mod trees;
mod types;

pub(super) use alter::ALTER;
pub(super) use others::OTHERS;
pub(super) use outside::OUTSIDE;
pub(super) use trees::TREES;
pub(super) use types::TYPES;

/// Runs once in each database.
pub(super) const ONCE: &str = "
CREATE EXTENSION citext; CREATE EXTENSION btree_gist;
CREATE DOMAIN public.amount AS int;
CREATE DOMAIN public.positive AS int CHECK (VALUE > 0);
CREATE TYPE public.mood AS ENUM ('low', 'high');
CREATE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE FUNCTION public.volatile_one() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION public.stable_one() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
";
