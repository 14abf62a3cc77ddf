package encryption

// LookAlways makes a keyset look at its file each time, so that tests need not wait.
func (k *Keyset) LookAlways() { k.every = 0 }
