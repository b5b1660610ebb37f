-- The key of accounts becomes a uuid. account_ids maps the two, for rows of both versions.

-- pgshift: expand
CREATE TABLE account_ids (
    id   int PRIMARY KEY,
    uuid uuid NOT NULL UNIQUE DEFAULT gen_random_uuid()
);

-- Makes what is not mapped yet. Two writers of the same key get the same pair.
CREATE FUNCTION map_account(INOUT id int, INOUT uuid uuid) LANGUAGE plpgsql VOLATILE
SECURITY DEFINER SET search_path = public, pg_temp AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO account_ids (id, uuid)
    VALUES (coalesce($1, nextval('accounts_id_seq')), coalesce($2, gen_random_uuid()))
    ON CONFLICT DO NOTHING;
    SELECT m.id, m.uuid INTO $1, $2 FROM account_ids AS m WHERE m.id = $1 OR m.uuid = $2;
END $$;

-- STABLE: the same key gives the same value whenever it is asked, so every row can be verified.
CREATE FUNCTION account_uuid(int) RETURNS uuid LANGUAGE sql STABLE STRICT
SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce((SELECT m.uuid FROM account_ids AS m WHERE m.id = $1),
                    (SELECT n.uuid FROM map_account($1, NULL) AS n));
$$;

CREATE FUNCTION account_id(uuid) RETURNS int LANGUAGE sql STABLE STRICT
SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce((SELECT m.id FROM account_ids AS m WHERE m.uuid = $1),
                    (SELECT n.id FROM map_account(NULL, $1) AS n));
$$;

ALTER TABLE accounts
    ALTER COLUMN id DROP IDENTITY,
    ALTER COLUMN id TYPE uuid USING account_uuid(id),
    ALTER COLUMN id SET DEFAULT gen_random_uuid();

-- pgshift: reverse
UPDATE accounts SET id = account_id(id);
