// Package queue keeps jobs in order.
package queue

import (
	"fmt"
	"sync"
)

const Limit = 8

const (
	Low, High = iota, iota + 1
	// Other has none.
	Other
)

var ErrFull = fmt.Errorf("full: %d", Limit)

var (
	mu    sync.Mutex
	count int
)

// Job is one thing to do.
type Job struct {
	Name string
}

type Runner interface {
	Run(job *Job) error
	Stop()
}

type ID = string

type Handler func(*Job) error

type Stack[T any] struct {
	items []T
}

func New(name string) *Job {
	mu.Lock()
	defer mu.Unlock()
	const local = 1
	return &Job{Name: name + fmt.Sprint(local)}
}

func (j *Job) Run(h Handler) error {
	if err := h(j); err != nil {
		return fmt.Errorf("%s: %w", j.Name, err)
	}
	return nil
}

func (j Job) String() string { return j.Name }

func (s *Stack[T]) Push(item T) {
	s.items = append(s.items, item)
}

func (s Stack[T]) Len() int { return len(s.items) }

func TestRun(t *testing.T) {
	New("a").Run(func(*Job) error { return nil })
}
