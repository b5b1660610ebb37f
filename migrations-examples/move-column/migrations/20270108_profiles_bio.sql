-- users.bio moves to profiles.bio.

-- pgshift: expand
ALTER TABLE profiles ADD COLUMN bio text;

-- The sync trigger of the backfill is on profiles: it looks users up for profiles that are made.
-- What is written to users later, and the way back, are these two. Each stops where nothing is
-- left to do, so they do not call each other for ever.
CREATE FUNCTION users_bio_to_profiles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE profiles SET bio = NEW.bio WHERE user_id = NEW.id AND bio IS DISTINCT FROM NEW.bio;
    RETURN NULL;
END $$;
CREATE TRIGGER users_bio_to_profiles AFTER UPDATE ON users
    FOR EACH ROW WHEN (OLD.bio IS DISTINCT FROM NEW.bio)
    EXECUTE FUNCTION users_bio_to_profiles();

CREATE FUNCTION profiles_bio_to_users() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE users SET bio = NEW.bio WHERE id = NEW.user_id AND bio IS DISTINCT FROM NEW.bio;
    RETURN NULL;
END $$;
CREATE TRIGGER profiles_bio_to_users AFTER INSERT OR UPDATE ON profiles
    FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill')
    EXECUTE FUNCTION profiles_bio_to_users();

-- pgshift: backfill
UPDATE profiles AS p SET bio = u.bio FROM users AS u WHERE u.id = p.user_id;

-- pgshift: verify
SELECT p.user_id FROM profiles AS p JOIN users AS u ON u.id = p.user_id
WHERE p.bio IS DISTINCT FROM u.bio;

-- pgshift: contract
DROP TRIGGER users_bio_to_profiles ON users;
DROP TRIGGER profiles_bio_to_users ON profiles;
DROP FUNCTION users_bio_to_profiles(), profiles_bio_to_users();
ALTER TABLE users DROP COLUMN bio;

-- pgshift: revert
CREATE FUNCTION users_bio_to_profiles() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE profiles SET bio = NEW.bio WHERE user_id = NEW.id AND bio IS DISTINCT FROM NEW.bio;
    RETURN NULL;
END $$;
CREATE TRIGGER users_bio_to_profiles AFTER UPDATE ON users
    FOR EACH ROW WHEN (OLD.bio IS DISTINCT FROM NEW.bio)
    EXECUTE FUNCTION users_bio_to_profiles();

CREATE FUNCTION profiles_bio_to_users() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE users SET bio = NEW.bio WHERE id = NEW.user_id AND bio IS DISTINCT FROM NEW.bio;
    RETURN NULL;
END $$;
CREATE TRIGGER profiles_bio_to_users AFTER INSERT OR UPDATE ON profiles
    FOR EACH ROW WHEN (current_setting('pgshift.writer', true) IS DISTINCT FROM 'backfill')
    EXECUTE FUNCTION profiles_bio_to_users();
