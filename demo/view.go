package demo

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Where says where things are, for the view and for what to try next.
type Where struct {
	URL   string
	Data  string // the data directory
	Token string // how to get the admin token: "$(cat DIR/admin-token)"
	Kith  string // how the program was called: "bin/kith"
	Seed  uint64
	SDK   bool // the website sends through the official SDK
}

// Screen draws the figures as a block of lines that replaces the one before.
func (w Where) Screen(f Figures) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	how := "website through @segment/analytics-node, the rest plain HTTP"
	if !w.SDK {
		how = "all plain HTTP: Node or its packages are missing"
	}
	line("Kith, a hotel group   %s   seed %d   %s   Ctrl-C stops", w.URL, w.Seed, minutes(f.Elapsed))
	line("%s", how)
	line("")
	line("events/s   %s %s", right(last(f.PerSecond), 6), sparkline(f.PerSecond))
	line("sent       %s   of them %d twice, %d late, %d odd", right(f.Sent, 6), f.Again, f.Late, f.Odd)
	line("dropped    %s duplicates   blocked by the plan %d   rejected %d", right(f.Duplicates, 6), f.Blocked, f.Rejected)
	line("")
	line("people     %s profiles out of %s ids seen   %d merges   %d ids kept apart", right(f.Profiles, 6), group(f.IDs), f.Merges, f.Protected)
	line("")
	line("audiences                   members            entered    left")
	most := 1
	for _, a := range f.Audiences {
		most = max(most, a.Members)
	}
	for _, a := range f.Audiences {
		line("  %s %s %s %s %s", pad(a.Name, 26), right(a.Members, 6), pad(bar(a.Members, most, 12), 12), right(a.Entered, 6), right(a.Left, 7))
	}
	line("")
	line("deliveries")
	for _, d := range f.Deliveries {
		line("  %s %s   %s", pad(d.Name, 26), right(d.Events, 6), d.Last)
	}
	if f.Unsent > 0 {
		line("")
		line("the server did not take %d calls", f.Unsent)
	}
	line("")
	line("Try, in another terminal:")
	for _, c := range w.next() {
		line("  %s", c)
	}
	return b.String()
}

// Line draws the figures as one line, for a log.
func (w Where) Line(f Figures) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %d events/s  sent %d (dup %d, blocked %d, rejected %d)  profiles %d of %d ids, %d merges",
		minutes(f.Elapsed), last(f.PerSecond), f.Sent, f.Duplicates, f.Blocked, f.Rejected, f.Profiles, f.IDs, f.Merges)
	for i, a := range f.Audiences {
		sep := ", "
		if i == 0 {
			sep = "  audiences "
		}
		fmt.Fprintf(&b, "%s%s %d (+%d -%d)", sep, a.Key, a.Members, a.Entered, a.Left)
	}
	for i, d := range f.Deliveries {
		sep := ", "
		if i == 0 {
			sep = "  delivered "
		}
		fmt.Fprintf(&b, "%s%s %d", sep, d.Slug, d.Events)
	}
	return b.String() + "\n"
}

// next says what to try.
func (w Where) next() []string {
	env := ""
	if w.URL != "http://127.0.0.1:8080" {
		env = " --server " + w.URL
	}
	return []string{
		"export KITH_ADMIN_TOKEN=" + w.Token,
		w.Kith + " tail" + env,
		w.Kith + " profile user_id:guest-000001" + env,
		w.Kith + " audience in_the_house" + env,
		w.Kith + " export" + env,
		"curl -u demo-website: " + w.URL + `/v1/track -d '{"userId":"me","event":"Booking Started"}'`,
	}
}

// Goodbye says what is left when the demo has ended.
func (w Where) Goodbye(f Figures) string {
	return fmt.Sprintf("\n%d events in %s made %d profiles out of %d ids. The data is in %s: look at it again with\n  %s serve --data %s\n",
		f.Sent, minutes(f.Elapsed), f.Profiles, f.IDs, w.Data, w.Kith, w.Data)
}

func minutes(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func last(list []int) int {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1]
}

// group writes a number in groups of three digits.
func group(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func right(n, width int) string { return fmt.Sprintf("%*s", width, group(n)) }

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// bar draws n out of most.
func bar(n, most, width int) string {
	if n <= 0 {
		return ""
	}
	return strings.Repeat("█", max(1, n*width/most))
}

// sparkline draws numbers as a row of blocks.
func sparkline(list []int) string {
	blocks := []rune("▁▂▃▄▅▆▇█")
	most := 1
	for _, n := range list {
		most = max(most, n)
	}
	var b strings.Builder
	for _, n := range list {
		b.WriteRune(blocks[n*(len(blocks)-1)/most])
	}
	return b.String()
}
