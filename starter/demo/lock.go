package demo

import (
	"context"
	"fmt"

	"mobileid"
	"mobileid/starter/client"
	"mobileid/workflows"
)

// lockScenes are about the lock alone. None of them needs another one to succeed,
// but for Anna's second try.
func (d *Demo) lockScenes() []scene {
	anna, bert := d.Locks.User("anna"), d.Locks.User("bert")
	return []scene{
		{"Anna locks her mobile ID mid-1001 and presses Next", func(ctx context.Context) (string, error) {
			if _, err := anna.Start(ctx, "mid-1001", client.LockOptions{}); err != nil {
				return "", err
			}
			if _, err := anna.Next(ctx, "mid-1001", client.LockOptions{}); err != nil {
				return "", err
			}
			status, err := anna.WaitClosed(ctx, "mid-1001", nil)
			if err != nil {
				return "", err
			}
			if status.Outcome != workflows.OutcomeLocked {
				return "", fmt.Errorf("the outcome is %q", status.Outcome)
			}
			return "locked " + took(status.RequestedAt, status.LockedAt) + " after Next; visible to others " + took(status.RequestedAt, status.VisibleAt) + " after it", nil
		}},
		{"Anna locks mid-1001 once more", refused(mobileid.ErrMobileIDNotActive, func(ctx context.Context) error {
			_, err := anna.Lock(ctx, "mid-1001", client.LockOptions{})
			return err
		})},
		{"Bert tries to lock Carl's mobile ID mid-1003", refused(mobileid.ErrMobileIDNotFound, func(ctx context.Context) error {
			_, err := bert.Lock(ctx, "mid-1003", client.LockOptions{})
			return err
		})},
		{"Bert tries to lock one that does not exist", refused(mobileid.ErrMobileIDNotFound, func(ctx context.Context) error {
			_, err := bert.Lock(ctx, "mid-9999", client.LockOptions{})
			return err
		})},
		{"Bert starts to lock his own mid-1002 and presses Cancel", func(ctx context.Context) (string, error) {
			if _, err := bert.Start(ctx, "mid-1002", client.LockOptions{}); err != nil {
				return "", err
			}
			status, err := bert.Cancel(ctx, "mid-1002", client.LockOptions{})
			if err != nil {
				return "", err
			}
			if status.Outcome != workflows.OutcomeCancelled {
				return "", fmt.Errorf("the outcome is %q", status.Outcome)
			}
			return "cancelled, nothing was changed", nil
		}},
	}
}
