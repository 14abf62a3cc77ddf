//go:build !linux

package smallstep

import "syscall"

// dieWithParent can do nothing here: Linux alone ends a child with its parent.
// A demo that is killed leaves its children running.
func dieWithParent() *syscall.SysProcAttr { return nil }
