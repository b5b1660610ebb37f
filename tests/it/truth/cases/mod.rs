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
CREATE FUNCTION public.volatile_one() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION public.stable_one() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1; END';
DO $$ BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        CREATE ACCESS METHOD other TYPE TABLE HANDLER heap_tableam_handler;
    END IF;
END $$;
";

/// Runs once in each cluster; it may be there already.
pub(super) const TABLESPACE: &str =
    "SET allow_in_place_tablespaces = on; CREATE TABLESPACE truth_space LOCATION ''";
