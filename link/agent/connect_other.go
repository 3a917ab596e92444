//go:build !unix

package agent

import "context"

func (a *agent) connectOnSignal(context.Context) {}
