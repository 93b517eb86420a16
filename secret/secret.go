package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"kith/fault"
)

// Name is the key file's name within the data directory.
const Name = "secret.key"

// Prefix begins every text that this version seals. What follows is base64 of
// a 12-byte nonce and the AES-256-GCM ciphertext.
const Prefix = "sealed:v1:"

// MaxBytes is the longest text that is sealed.
const MaxBytes = 64 << 10

const (
	keyBytes   = 32
	keyPrefix  = "kith-key-v1:" // the key file is this, 64 hex digits and a line end
	nonceBytes = 12
)

// Box seals and unseals texts with one key. It is safe for concurrent use as
// long as its source of randomness is.
type Box struct {
	aead   cipher.AEAD
	hash   []byte // key of Hash
	random io.Reader
}

// Open reads the key file in dir, or makes it, mode 0600, from random. A key
// file that others than its owner may read is refused, and so is one that is
// damaged: a new key would leave everything sealed unreadable.
func Open(dir string, random io.Reader) (*Box, error) {
	path := filepath.Join(dir, Name)
	key, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(path, random)
	}
	if err != nil {
		return nil, fmt.Errorf("open secret key: %w", err)
	}
	return New(key, random)
}

// New returns a box with the given key of 32 bytes.
func New(key []byte, random io.Reader) (*Box, error) {
	if len(key) != keyBytes {
		return nil, fault.New(fault.Invalid, "a key has %d bytes, not %d", keyBytes, len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	derived := hmac.New(sha256.New, key)
	derived.Write([]byte("kith-hash-v1"))
	return &Box{aead: aead, hash: derived.Sum(nil), random: random}, nil
}

// Seal returns plain in sealed form, another text each time.
func (b *Box) Seal(plain string) (string, error) {
	if len(plain) > MaxBytes {
		return "", fault.New(fault.Invalid, "a secret of %d bytes is too long; at most %d are sealed", len(plain), MaxBytes)
	}
	nonce := make([]byte, nonceBytes, nonceBytes+len(plain)+b.aead.Overhead())
	if _, err := io.ReadFull(b.random, nonce); err != nil {
		return "", fmt.Errorf("seal a secret: %w", err)
	}
	sealed := b.aead.Seal(nonce, nonce, []byte(plain), []byte(Prefix))
	return Prefix + base64.RawURLEncoding.EncodeToString(sealed), nil
}

// Unseal returns what was sealed. Text of another key, or that was changed, is
// an error that tells nothing of it.
func (b *Box) Unseal(sealed string) (string, error) {
	rest, ok := strings.CutPrefix(sealed, Prefix)
	if !ok {
		return "", fault.New(fault.Invalid, "the text is not sealed, or by a newer Kith")
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(rest)
	if err != nil || len(raw) < nonceBytes {
		return "", errUnreadable()
	}
	plain, err := b.aead.Open(nil, raw[:nonceBytes], raw[nonceBytes:], []byte(Prefix))
	if err != nil {
		return "", errUnreadable()
	}
	return string(plain), nil
}

// Hash returns a text that stands for another: always the same under this key,
// and without the key it tells nothing of it, not even to one who guesses.
func (b *Box) Hash(text []byte) string {
	mac := hmac.New(sha256.New, b.hash)
	mac.Write(text)
	return hex.EncodeToString(mac.Sum(nil))
}

func errUnreadable() error {
	return fault.New(fault.Invalid, "a sealed secret cannot be read with this server's key (%s): it was sealed by another server, or changed", Name)
}

// String keeps the key out of logs.
func (b *Box) String() string { return "secret box" }

// Format keeps the key out of every print verb.
func (b *Box) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, b.String()) }

func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fault.New(fault.Denied, "%s can be read by others than its owner (mode %04o); make it yours alone: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, err
	}
	digits, ok := strings.CutPrefix(strings.TrimSpace(string(text)), keyPrefix)
	key, err := hex.DecodeString(digits)
	if !ok || err != nil || len(key) != keyBytes {
		return nil, fault.New(fault.Invalid, "%s does not hold a key; put the right file back: without it the sealed secrets are lost", path)
	}
	return key, nil
}

// makeKey writes a new key so that a crash leaves the whole file or none.
func makeKey(path string, random io.Reader) ([]byte, error) {
	key := make([]byte, keyBytes)
	if _, err := io.ReadFull(random, key); err != nil {
		return nil, err
	}
	text := keyPrefix + hex.EncodeToString(key) + "\n"
	if err := WriteOnce(path, text); err != nil {
		if errors.Is(err, fs.ErrExist) { // another process was faster
			return readKey(path)
		}
		return nil, err
	}
	return key, nil
}

// WriteOnce writes a file that only its owner may read, and that is whole or
// missing after a crash. It fails with fs.ErrExist when there is one already.
func WriteOnce(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike a rename, never over another file
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
