package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"kith/clock"
	"kith/fault"
	"kith/kv"
	"kith/secret"
)

// Name is the name of the admin token's file within the data directory.
const Name = "admin-token"

// Bounds of what is kept and read.
const (
	maxTokens     = 1000 // profile tokens of a workspace
	maxName       = 255
	maxToken      = 512 // a token that a caller sends
	adminPrefix   = "kith_admin_"
	profilePrefix = "kith_profile_"
)

// AdminToken returns the admin token: given (KITH_ADMIN_TOKEN) when it is not
// empty, otherwise what the file in dir holds, which is made at the first
// start, mode 0600. path is the file's, empty when the token was given.
func AdminToken(dir, given string, random io.Reader) (token, path string, err error) {
	if given != "" {
		if err := checkToken(given); err != nil {
			return "", "", fmt.Errorf("KITH_ADMIN_TOKEN: %w", err)
		}
		return given, "", nil
	}
	path = filepath.Join(dir, Name)
	token, err = readToken(path)
	if errors.Is(err, fs.ErrNotExist) {
		if token, err = newToken(adminPrefix, random); err == nil {
			err = secret.WriteOnce(path, token+"\n")
		}
		if errors.Is(err, fs.ErrExist) { // another process was faster
			token, err = readToken(path)
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("admin token: %w", err)
	}
	return token, path, nil
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fault.New(fault.Denied, "%s can be read by others than its owner (mode %04o); make it yours alone: chmod 600 %s", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxToken+2))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if err := checkToken(token); err != nil {
		return "", fmt.Errorf("%s: %w; remove the file and a new token is made at the next start", path, err)
	}
	return token, nil
}

func checkToken(token string) error {
	bad := func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || r > unicode.MaxASCII || r == ':'
	}
	switch {
	case token == "":
		return fault.New(fault.Invalid, "the token is empty")
	case len(token) > maxToken:
		return fault.New(fault.Invalid, "the token has %d characters; at most %d are read", len(token), maxToken)
	case strings.ContainsFunc(token, bad):
		return fault.New(fault.Invalid, "the token must be of printable ASCII without spaces and colons")
	}
	return nil
}

func newToken(prefix string, random io.Reader) (string, error) {
	b := make([]byte, 24)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make a token: %w", err)
	}
	return prefix + base64.RawURLEncoding.EncodeToString(b), nil
}

// Keeper checks callers and keeps profile tokens. It is safe for concurrent
// use as long as its source of randomness is.
type Keeper struct {
	db     kv.DB
	clock  clock.Clock
	random io.Reader
	admin  [32]byte // SHA-256 of the admin token
	// strong says that the admin token is one of ours, which nobody guesses.
	// Against one that somebody thought up, guesses are bounded.
	strong bool
	wrong  *throttle // of wrong tokens, by client
	client func(*http.Request) string
	seen   *seen // profile tokens that were looked up lately
}

// New returns a keeper. The admin token must not be empty.
func New(db kv.DB, clk clock.Clock, random io.Reader, adminToken string) (*Keeper, error) {
	if err := checkToken(adminToken); err != nil {
		return nil, err
	}
	return &Keeper{
		db: db, clock: clk, random: random, admin: sha256.Sum256([]byte(adminToken)),
		strong: strings.HasPrefix(adminToken, adminPrefix) && len(adminToken) >= len(adminPrefix)+32,
		wrong:  newThrottle(clk, 1, 100), client: Peer, seen: newSeen(),
	}, nil
}

// KnowClients says how to tell who sends a request, where that is not its peer:
// behind a proxy. It is called before the first request.
func (k *Keeper) KnowClients(client func(*http.Request) string) { k.client = client }

// Peer names who has sent a request: the address of its peer, of IPv6 the
// network of 64 bits.
func Peer(r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return ClientName(peer.Addr())
}

// ClientName names a client by its address, of IPv6 by the network of 64 bits,
// which one customer has as a whole.
func ClientName(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// allows says whether a token, given its SHA-256, is the admin token. A client
// that has sent many wrong ones must wait, the right one or not, which is
// fault.RetryAfter: else its guesses would count.
func (k *Keeper) allows(r *http.Request, hash [32]byte) (bool, error) {
	right := k.isAdmin(hash)
	if right && k.strong {
		return true, nil
	}
	client := k.client(r)
	if wait := k.wrong.wait(client); wait > 0 {
		return false, &fault.Error{Kind: fault.RetryAfter, Message: "too many wrong tokens came from your address; wait a little", After: wait}
	}
	return right, nil
}

// Admin checks that a request carries the admin token as a bearer token (RFC
// 6750, section 2.1). Otherwise it is fault.Denied, or fault.RetryAfter after
// too many wrong ones.
func (k *Keeper) Admin(r *http.Request) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme == "" {
		return fault.New(fault.Denied, "no token: send the admin token as Authorization: Bearer TOKEN")
	}
	if !strings.EqualFold(scheme, "bearer") {
		return fault.New(fault.Denied, "the control API takes a bearer token: Authorization: Bearer TOKEN")
	}
	right, err := k.allows(r, sha256.Sum256([]byte(strings.TrimSpace(token))))
	if err != nil {
		return err
	}
	if !right {
		k.wrong.take(k.client(r))
		return fault.New(fault.Denied, "the token is not valid")
	}
	return nil
}

// Caller is who has shown a token with the right to read a space.
type Caller struct {
	Name   string // of the token, for people
	Delete bool   // may delete identifiers

	mark [12]byte // of a profile token; zero for the admin token
}

// MayRead checks that a request may read the profiles of a space: HTTP Basic,
// a profile token of that space, or the admin token, as user name, and an empty
// password (sheet unify_engage_privacy §1.8). Otherwise it is fault.Denied.
func (k *Keeper) MayRead(r *http.Request, space uint32) (Caller, error) {
	token, password, ok := r.BasicAuth()
	if !ok || password != "" || token == "" || len(token) > maxToken {
		return Caller{}, fault.New(fault.Denied, "no token: send it by HTTP Basic as the user name, with an empty password")
	}
	hash := sha256.Sum256([]byte(token))
	if k.strong && k.isAdmin(hash) {
		return Caller{Name: "admin token", Delete: true}, nil
	}
	t, of, err := k.lookUp(r.Context(), token, hash)
	if err != nil {
		return Caller{}, err
	}
	if of == space && t.ID != "" {
		return Caller{Name: t.Name, Delete: t.Delete, mark: [12]byte(hash[:12])}, nil
	}
	right, err := k.allows(r, hash)
	if err != nil {
		return Caller{}, err
	}
	if right {
		return Caller{Name: "admin token", Delete: true}, nil
	}
	k.wrong.take(k.client(r))
	return Caller{}, fault.New(fault.Denied, "the token is not valid for this space")
}

// lookUp returns what is known of a profile token, and its space; the zero token
// if it is none.
func (k *Keeper) lookUp(ctx context.Context, token string, hash [32]byte) (t ProfileToken, space uint32, err error) {
	if !strings.HasPrefix(token, profilePrefix) {
		return t, 0, nil
	}
	if known, ok := k.seen.get(hash); ok {
		return known.token, known.space, nil
	}
	var stored []byte
	since := k.seen.changes()
	err = k.db.View(ctx, func(v kv.Reader) (err error) {
		stored, err = v.Get(tokenKey(hash))
		return err
	})
	if err != nil {
		return t, 0, fmt.Errorf("look a profile token up: %w", err)
	}
	if stored == nil {
		return t, 0, nil
	}
	if t, space, err = decode(stored); err == nil {
		k.seen.put(hash, known{t, space}, since)
	}
	return t, space, err
}

// isAdmin compares hashes, which are of one length, so that it takes the same
// time for all tokens.
func (k *Keeper) isAdmin(hash [32]byte) bool {
	return subtle.ConstantTimeCompare(hash[:], k.admin[:]) == 1
}

// ProfileToken is what is known of a profile token. The token itself is not
// kept.
type ProfileToken struct {
	ID        string
	Name      string
	Delete    bool // may delete identifiers, besides reading
	CreatedAt time.Time
}

// Create makes a profile token for a space, which reads its profiles and, with
// mayDelete, deletes identifiers by Segment's endpoint. token is shown to the caller once
// and cannot be had again.
func (k *Keeper) Create(ctx context.Context, space uint32, name string, mayDelete bool) (t ProfileToken, token string, err error) {
	name = strings.TrimSpace(name)
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl) {
		return t, "", fault.Field("name", "want a name of 1 to %d bytes", maxName)
	}
	if token, err = newToken(profilePrefix, k.random); err != nil {
		return t, "", err
	}
	hash := sha256.Sum256([]byte(token))
	t = ProfileToken{ID: "pt_" + base64.RawURLEncoding.EncodeToString(hash[:12]), Name: name, Delete: mayDelete, CreatedAt: k.clock.Now()}
	err = k.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
		n := 0
		for _, err := range tx.Scan(kv.Prefix(kv.WorkspaceKey(room))) {
			if err != nil {
				return err
			}
			n++
		}
		if n >= maxTokens {
			return fault.New(fault.Conflict, "there are %d profile tokens, as many as are kept; revoke those that are not in use", n)
		}
		return tx.Set(tokenKey(hash), encode(t, space))
	})
	if err != nil {
		return ProfileToken{}, "", fmt.Errorf("create a profile token: %w", err)
	}
	return t, token, nil
}

// List returns a space's profile tokens, the oldest first.
func (k *Keeper) List(ctx context.Context, space uint32) ([]ProfileToken, error) {
	list := []ProfileToken{}
	err := k.db.View(ctx, func(r kv.Reader) error {
		return each(r, func(_ []byte, t ProfileToken, of uint32) error {
			if of == space {
				list = append(list, t)
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list profile tokens: %w", err)
	}
	sortTokens(list)
	return list, nil
}

// Revoke forgets a profile token of a space: the next request with it is
// refused. An unknown id is fault.NotFound.
func (k *Keeper) Revoke(ctx context.Context, space uint32, id string) error {
	defer k.seen.forget() // also when nobody knows whether it was committed
	err := k.db.Update(ctx, fence, kv.Durable, func(tx kv.Tx) error {
		var key []byte
		err := each(tx, func(at []byte, t ProfileToken, of uint32) error {
			if of == space && t.ID == id {
				key = at
			}
			return nil
		})
		if err != nil {
			return err
		}
		if key == nil {
			return fault.New(fault.NotFound, "there is no profile token %q in this space", id)
		}
		return tx.Delete(key)
	})
	if err != nil {
		return fmt.Errorf("revoke a profile token: %w", err)
	}
	return nil
}
