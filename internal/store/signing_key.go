package store

import "github.com/ganglion-iot/ganglion/fleet"

// CreateSigningKey adds a signing key to the org of the scope.
func (tx *Tx) CreateSigningKey(s fleet.Scope, k *fleet.SigningKey) (err error) {
	if err := owned(s, "signing key", &k.OrgID); err != nil {
		return err
	}
	k.UUID, k.CreatedAt = newUUID(), tx.now()
	k.ID, err = tx.insert("signing key", "signing_keys", new(values).set("uuid", k.UUID).set("org_id", k.OrgID).set("name", k.Name).
		set("key", k.Key).set("created_by", k.CreatedBy).set("created_at", k.CreatedAt))
	return err
}

const signingKeyColumns = "k.id, k.uuid, k.org_id, k.name, k.key, k.created_by, k.created_at"

func scanSigningKey(r row) (k fleet.SigningKey, err error) {
	return k, r.Scan(&k.ID, &k.UUID, &k.OrgID, &k.Name, &k.Key, &k.CreatedBy, at(&k.CreatedAt))
}

// SigningKey finds a signing key by id.
func (tx *Tx) SigningKey(s fleet.Scope, id int64) (fleet.SigningKey, error) {
	args := []any{id}
	return scanOne("signing key", tx.queryRow("SELECT "+signingKeyColumns+" FROM signing_keys k WHERE k.id = $1 AND "+scopeClause(s, "k.org_id", &args), args...), scanSigningKey)
}

// SigningKeyByName finds a signing key of the org by name.
func (tx *Tx) SigningKeyByName(s fleet.Scope, name string) (fleet.SigningKey, error) {
	args := []any{name}
	return scanOne("signing key", tx.queryRow("SELECT "+signingKeyColumns+" FROM signing_keys k WHERE k.name = $1 AND "+scopeClause(s, "k.org_id", &args), args...), scanSigningKey)
}

// ListSigningKeys lists the signing keys of the org in the order they came.
func (tx *Tx) ListSigningKeys(s fleet.Scope) ([]fleet.SigningKey, error) {
	var args []any
	rows, err := tx.query("SELECT "+signingKeyColumns+" FROM signing_keys k WHERE "+scopeClause(s, "k.org_id", &args)+" ORDER BY k.id", args...)
	return scanAll("signing key", rows, err, scanSigningKey)
}

// DeleteSigningKey removes a signing key. It is a Conflict while firmware
// or an archive signed by it is stored.
func (tx *Tx) DeleteSigningKey(s fleet.Scope, id int64) error {
	return tx.remove("signing key", "signing_keys", s, id)
}

// SigningKeyInUse reports whether stored firmware or a stored archive was
// signed by the key.
func (tx *Tx) SigningKeyInUse(s fleet.Scope, id int64) (used bool, err error) {
	args := []any{id}
	scope := scopeClause(s, "org_id", &args)
	err = tx.queryRow("SELECT EXISTS (SELECT 1 FROM firmware WHERE signing_key_id = $1 AND "+scope+
		") OR EXISTS (SELECT 1 FROM archives WHERE signing_key_id = $1 AND "+scope+")", args...).Scan(&used)
	return used, mapErr("signing key", err)
}
