package fleet

import "time"

// Org is a tenant: everything else belongs to exactly one.
type Org struct {
	ID        int64
	UUID      string
	Name      string // letters, digits, "-" and "_"; unique on the server
	CreatedAt time.Time
	UpdatedAt time.Time
}

// User is a person who can sign in.
type User struct {
	ID           int64
	UUID         string
	Email        string // unique without regard to case
	Name         string
	PasswordHash string // PHC string; never leaves the server
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// Membership gives a user a role in an org.
type Membership struct {
	ID        int64
	OrgID     int64
	UserID    int64
	Role      Role
	CreatedAt time.Time

	User User // filled by lists
	Org  Org  // filled by lists
}

// TokenKind says what a token is good for.
type TokenKind string

// The kinds of tokens.
const (
	TokenAPI     TokenKind = "api"     // command line and programs
	TokenSession TokenKind = "session" // a browser
	TokenSetup   TokenKind = "setup"   // makes the first admin, once
)

// Token lets its bearer act as a user. Only a hash of it is stored.
type Token struct {
	ID         int64
	UUID       string
	UserID     int64 // 0 for a set-up token
	Kind       TokenKind
	Hash       []byte // SHA-512 of the random part
	Note       string
	ExpiresAt  time.Time // zero: never
	LastUsedAt time.Time
	CreatedAt  time.Time
}
