-- Sessions that expired before 2026 are never read again.

-- pgshift: backfill batch=500
-- A fixed moment, not now(): a resumed run must mean the same rows.
DELETE FROM sessions WHERE expires_at < timestamptz '2026-01-01 00:00+00';

-- pgshift: verify
SELECT count(*) FROM sessions WHERE expires_at < timestamptz '2026-01-01 00:00+00';
