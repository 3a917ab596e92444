// Package store keeps the fleet in SQL: SQLite on one machine, PostgreSQL at
// scale, the same plain statements on both. Every query of tenant data takes
// a fleet.Scope and adds its org. Only this package imports a SQL driver.
//
// Update and View give a transaction; its methods compose. On SQLite all
// writes go through one writer that commits many of them together.
package store
