package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// queues are tables that Temporal empties by itself, in its own time: how many rows they
// have at one moment says nothing.
var queues = []string{"tasks", "tasks_v2", "transfer_tasks", "visibility_tasks", "timer_tasks"}

// Footprint is what one run leaves in PostgreSQL.
type Footprint struct {
	Subject string             `json:"subject"`
	Rows    map[string]float64 `json:"rows"`     // by database/table; those that stay
	Bytes   map[string]float64 `json:"bytes"`    // by database; tables with their indexes, and what vacuum will free
	WAL     float64            `json:"walBytes"` // written ahead for it, by all databases
}

// state of the databases at one moment.
type state struct {
	rows  map[string]int64
	bytes map[string]int64
	wal   int64
}

// footprint runs each subject alone, and sees what has become more.
func (b *bench) footprint(ctx context.Context) error {
	if len(b.Databases) == 0 {
		return nil
	}
	for _, s := range b.subjects() {
		n := b.size().footprint
		run, err := s.prepare(ctx, n)
		if err != nil {
			return err
		}
		before, err := b.state(ctx)
		if err != nil {
			return err
		}
		if err := atATime(ctx, n, 20, run); err != nil {
			return err
		}
		after, err := b.state(ctx)
		if err != nil {
			return err
		}
		f := Footprint{Subject: s.name, Rows: map[string]float64{}, Bytes: map[string]float64{}, WAL: float64(after.wal-before.wal) / float64(n)}
		for table, rows := range after.rows {
			if more := rows - before.rows[table]; more != 0 {
				f.Rows[table] = float64(more) / float64(n)
			}
		}
		for database, bytes := range after.bytes {
			f.Bytes[database] = float64(bytes-before.bytes[database]) / float64(n)
		}
		b.report.Footprints = append(b.report.Footprints, f)
	}
	return nil
}

// state counts exactly: what the statistics of PostgreSQL say comes late.
func (b *bench) state(ctx context.Context) (state, error) {
	s := state{rows: map[string]int64{}, bytes: map[string]int64{}}
	for _, name := range slices.Sorted(maps.Keys(b.Databases)) {
		if err := s.add(ctx, name, b.Databases[name]); err != nil {
			return s, fmt.Errorf("count in database %s: %w", name, err)
		}
	}
	return s, nil
}

func (s *state) add(ctx context.Context, name, url string) (err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn`).Scan(&s.wal); err != nil {
		return err
	}
	rows, err := conn.Query(ctx, `SELECT relname, pg_total_relation_size(relid) FROM pg_stat_user_tables`)
	if err != nil {
		return err
	}
	type table struct {
		Name  string
		Bytes int64
	}
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	if err != nil {
		return err
	}
	for _, t := range tables {
		var count int64
		if err := conn.QueryRow(ctx, `SELECT count(*) FROM `+pgx.Identifier{t.Name}.Sanitize()).Scan(&count); err != nil {
			return err
		}
		if !slices.Contains(queues, t.Name) {
			s.rows[name+"/"+t.Name] = count
		}
		s.bytes[name] += t.Bytes
	}
	return nil
}
