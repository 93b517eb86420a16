package secret_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kith/fault"
	"kith/secret"
)

func randomness(seed byte) *rand.ChaCha8 { return rand.NewChaCha8([32]byte{seed}) }

func TestKeyFileIsMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	box, err := secret.Open(dir, randomness(1))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, secret.Name))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", info, err)
	}
	sealed, err := box.Seal("hush")
	if err != nil {
		t.Fatal(err)
	}
	again, err := secret.Open(dir, randomness(2))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := again.Unseal(sealed); err != nil || plain != "hush" {
		t.Fatalf("after a restart: %q, %v", plain, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Fatalf("left behind: %v", entries)
	}
}

func TestSealing(t *testing.T) {
	box, err := secret.New([]byte(strings.Repeat("k", 32)), randomness(1))
	if err != nil {
		t.Fatal(err)
	}
	other, _ := secret.New([]byte(strings.Repeat("o", 32)), randomness(1))
	for _, plain := range []string{"", "hush", strings.Repeat("ä", 10_000), "\x00\xff"} {
		a, err := box.Seal(plain)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := box.Seal(plain)
		if a == b || !strings.HasPrefix(a, secret.Prefix) || plain != "" && strings.Contains(a, plain) {
			t.Errorf("sealed %q twice: %q, %q", plain, a, b)
		}
		if got, err := box.Unseal(a); err != nil || got != plain {
			t.Errorf("unsealed %q, %v", got, err)
		}
		if _, err := other.Unseal(a); !fault.Is(err, fault.Invalid) {
			t.Errorf("another key opened it: %v", err)
		}
	}
	sealed, _ := box.Seal("hush")
	for i := len(secret.Prefix); i < len(sealed); i++ {
		changed := []byte(sealed)
		changed[i] ^= 1
		if _, err := box.Unseal(string(changed)); err == nil {
			t.Fatalf("byte %d changed and nobody noticed", i)
		}
	}
	for _, bad := range []string{"", "hush", "sealed:v2:x", secret.Prefix, secret.Prefix + "!!", secret.Prefix + "AAAA"} {
		if _, err := box.Unseal(bad); !fault.Is(err, fault.Invalid) || strings.Contains(err.Error(), "hush") {
			t.Errorf("Unseal(%q): %v", bad, err)
		}
	}
	if _, err := box.Seal(strings.Repeat("x", secret.MaxBytes+1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("too long: %v", err)
	}
}

func TestKeyFileOfOthersIsRefused(t *testing.T) {
	dir := t.TempDir()
	if _, err := secret.Open(dir, randomness(1)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, secret.Name)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := secret.Open(dir, randomness(1)); !fault.Is(err, fault.Denied) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("kith-key-v1:abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Open(dir, randomness(1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a damaged key file: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "kith-key-v1:abc\n" {
		t.Error("a damaged key file was overwritten")
	}
}

func TestNothingIsPrinted(t *testing.T) {
	key := strings.Repeat("k", 32)
	box, err := secret.New([]byte(key), randomness(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		if got := fmt.Sprintf(verb, box); got != "secret box" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

func TestWriteOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := secret.WriteOnce(path, "a"); err != nil {
		t.Fatal(err)
	}
	if err := secret.WriteOnce(path, "b"); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("second write: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "a" {
		t.Fatalf("the file holds %q", text)
	}
}
