package store

import (
	"context"
	"database/sql"
	"strings"
	"sync"
)

// Bounds of what is kept prepared for SQLite. Longer statements write many
// rows and differ each time. PostgreSQL's driver keeps its own.
const (
	maxStatements      = 300
	maxStatementLength = 4096 // bytes
)

// statements keeps the statements of one SQLite pool prepared: parsing costs
// as much as a short query itself. A statement is prepared only while no
// connection is held, because the pool may have no other.
type statements struct {
	pool *sql.DB

	mu     sync.RWMutex
	ready  map[string]statement
	wanted map[string]bool
}

// statement is a prepared query and which argument each of its places takes.
type statement struct {
	*sql.Stmt
	places []int
}

func newStatements(pool *sql.DB) *statements {
	return &statements{pool: pool, ready: map[string]statement{}, wanted: map[string]bool{}}
}

// get returns the prepared statement of a query; when there is none yet it is
// wanted from now on.
func (s *statements) get(query string) (statement, bool) {
	s.mu.RLock()
	p, ok := s.ready[query]
	s.mu.RUnlock()
	if ok || len(query) > maxStatementLength {
		return p, ok
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ready)+len(s.wanted) < maxStatements {
		s.wanted[query] = true
	}
	return p, false
}

// prepare prepares what is wanted. The caller holds no connection of the pool.
// What fails to be prepared fails again when it runs, which tells more.
func (s *statements) prepare(ctx context.Context) {
	s.mu.RLock()
	none := len(s.wanted) == 0
	s.mu.RUnlock()
	if none {
		return
	}
	s.mu.Lock()
	wanted := s.wanted
	s.wanted = map[string]bool{}
	s.mu.Unlock()
	for query := range wanted {
		text, places := positional(query)
		stmt, err := s.pool.PrepareContext(ctx, text)
		if err != nil {
			continue
		}
		s.keep(query, statement{stmt, places})
	}
}

// keep makes a statement ready, unless another goroutine was quicker.
func (s *statements) keep(query string, p statement) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.ready[query]; ok {
		p.Close() //nolint:sqlclosecheck // the one that is ready stays
		return
	}
	s.ready[query] = p
}

// close lets go of all statements.
func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.ready {
		p.Close()
	}
	clear(s.ready)
}

// positional turns $1, $2 … into ? and returns the numbers in their order.
// SQLite takes $1 for a name and looks through all names for each one: a
// statement with thousands of them would take the square of the time.
func positional(query string) (text string, places []int) {
	if !strings.Contains(query, "$") {
		return query, nil
	}
	var b strings.Builder
	b.Grow(len(query))
	quoted := false
	for i := 0; i < len(query); i++ {
		c := query[i]
		if c == '\'' {
			quoted = !quoted
		}
		if c != '$' || quoted {
			b.WriteByte(c)
			continue
		}
		n := 0
		for i+1 < len(query) && '0' <= query[i+1] && query[i+1] <= '9' {
			i++
			n = n*10 + int(query[i]-'0')
		}
		b.WriteByte('?')
		places = append(places, n)
	}
	return b.String(), places
}

// arrange puts arguments into the order of places.
func arrange(args []any, places []int) []any {
	out := make([]any, len(places))
	for i, n := range places {
		if n >= 1 && n <= len(args) {
			out[i] = args[n-1]
		}
	}
	return out
}
