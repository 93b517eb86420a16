package server

import (
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"kith/fault"
)

// TLS says how the server comes by the certificate it shows. The zero value
// is plain HTTP; at most one of Cert, Dev and Domains is set.
type TLS struct {
	// Cert and Key are PEM files: the certificate with its chain, and its key.
	// They are read again when they change.
	Cert, Key string
	// Dev makes a local certificate authority in the data directory, and a
	// certificate of it for this machine and the public URL.
	Dev bool
	// Domains are names that a certificate is asked for, of the certificate
	// authority whose ACME directory (RFC 8555) is at ACMEDirectory: empty means
	// Let's Encrypt. ACMEAccept says that its terms are agreed to; ACMEEmail is
	// where it may write to, and may be empty; ACMERoots is a PEM file of the
	// roots that the directory's own certificate is checked against, the
	// system's when empty.
	Domains       []string
	ACMEDirectory string
	ACMEEmail     string
	ACMEAccept    bool
	ACMERoots     string
	// Redirect is an address, host:port, that answers plain HTTP: with a
	// redirect to the public URL, and the challenges of ACME. Empty: none.
	Redirect string
}

// on says whether the server speaks TLS.
func (t *TLS) on() bool { return t.Cert != "" || t.Dev || len(t.Domains) > 0 }

// completePublic checks how others reach the server. The names of the fields
// are those of the flags.
func (c *Config) completePublic() error {
	if err := c.TLS.check(c.Data); err != nil {
		return err
	}
	if c.PublicURL == "" && len(c.TLS.Domains) > 0 {
		c.PublicURL = "https://" + c.TLS.Domains[0]
	}
	if c.PublicURL == "" {
		return nil
	}
	u, err := parsePublic(c.PublicURL)
	if err != nil {
		return err
	}
	if c.TLS.Redirect != "" && u.Scheme != "https" {
		return fault.Field("public-url", "%q is not https, and --http-redirect leads there: from http to http without end", c.PublicURL)
	}
	c.PublicURL = u.String()
	return nil
}

// parsePublic reads a public URL. What comes back has a scheme and a host in
// lower case, and no default port.
func parsePublic(text string) (*url.URL, error) {
	bad := func(why string) error {
		return fault.Field("public-url", "%q %s: want https://host or https://host:port", text, why)
	}
	u, err := url.Parse(strings.TrimSpace(text))
	switch {
	case err != nil:
		return nil, bad("is not a URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, bad("begins with neither https:// nor http://")
	case u.Hostname() == "":
		return nil, bad("has no host")
	case strings.Trim(strings.ToLower(u.Hostname()), "abcdefghijklmnopqrstuvwxyz0123456789.-_:") != "":
		// It goes into scripts, pages and headers.
		return nil, bad("has a host with other signs than letters, digits, dots and hyphens; write a name with accents as xn--…")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return nil, bad("has more than scheme and host")
	}
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "" || u.Scheme == "https" && port == "443" || u.Scheme == "http" && port == "80" {
		host = strings.TrimSuffix(strings.TrimSuffix(host, ":"+port), ":")
	}
	return &url.URL{Scheme: u.Scheme, Host: host}, nil
}

func (t *TLS) check(data string) error {
	ways := 0
	for _, on := range []bool{t.Cert != "" || t.Key != "", t.Dev, len(t.Domains) > 0} {
		if on {
			ways++
		}
	}
	switch {
	case ways > 1:
		return fault.Field("tls-cert", "give one of --tls-cert with --tls-key, --tls-dev and --acme-domain, not several")
	case t.Cert != "" && t.Key == "":
		return fault.Field("tls-key", "--tls-cert needs the certificate's key: a PEM file")
	case t.Key != "" && t.Cert == "":
		return fault.Field("tls-cert", "--tls-key needs the certificate: a PEM file")
	case t.Dev && data == "":
		return fault.Field("tls-dev", "the certificate is kept in the data directory, and there is none")
	case t.Redirect != "" && ways == 0:
		return fault.Field("http-redirect", "there is nothing to redirect to: it needs --tls-cert, --tls-dev or --acme-domain")
	}
	if t.Redirect != "" {
		if _, _, err := net.SplitHostPort(t.Redirect); err != nil {
			return fault.Field("http-redirect", "%q is not an address: want host:port, such as :80", t.Redirect)
		}
	}
	return t.checkACME(data)
}

func (t *TLS) checkACME(data string) error {
	if len(t.Domains) == 0 {
		for name, set := range map[string]bool{
			"acme-email": t.ACMEEmail != "", "acme-directory": t.ACMEDirectory != "",
			"acme-accept-terms": t.ACMEAccept, "acme-ca": t.ACMERoots != "",
		} {
			if set {
				return fault.Field(name, "no certificate is asked for: it needs --acme-domain")
			}
		}
		return nil
	}
	if !t.ACMEAccept {
		return fault.Field("acme-accept-terms", "a certificate authority gives certificates to those who agree to its terms (Let's Encrypt's: https://letsencrypt.org/repository/): give this flag if you do")
	}
	if data == "" {
		return fault.Field("acme-domain", "the certificate is kept in the data directory, and there is none")
	}
	for i, d := range t.Domains {
		d = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(d), "."))
		if _, err := netip.ParseAddr(d); err == nil {
			return fault.Field("acme-domain", "%q is an address: certificates are for names", d)
		}
		if strings.Contains(d, "*") {
			return fault.Field("acme-domain", "%q has a wildcard, which needs a challenge in the DNS: get the certificate with another tool and give it with --tls-cert", d)
		}
		if !isDomain(d) {
			return fault.Field("acme-domain", "%q is not a domain name such as events.example.com", d)
		}
		t.Domains[i] = d
	}
	slices.Sort(t.Domains[1:]) // the first one names the server
	if t.ACMEEmail != "" {
		if a, err := mail.ParseAddress(t.ACMEEmail); err != nil || a.Address != t.ACMEEmail {
			return fault.Field("acme-email", "%q is not an e-mail address", t.ACMEEmail)
		}
	}
	if t.ACMEDirectory != "" {
		if u, err := url.Parse(t.ACMEDirectory); err != nil || u.Scheme != "https" || u.Host == "" {
			return fault.Field("acme-directory", "%q is not the https:// URL of an ACME directory", t.ACMEDirectory)
		}
	}
	return nil
}

// isDomain reports whether a name may stand in a certificate: labels of
// letters, digits and hyphens, at least two (RFC 1123 §2.1).
func isDomain(name string) bool {
	labels := strings.Split(name, ".")
	if len(name) > 253 || len(labels) < 2 {
		return false
	}
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		if strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return false
		}
	}
	return true
}
