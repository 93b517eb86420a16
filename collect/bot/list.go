package bot

import (
	_ "embed"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"sync"
	"unicode"
)

//go:embed patterns.txt
var patterns string

// people are patterns of the list that stand between us and people: mail
// programs fetch the images of an opened mail through them.
var people = []string{"GoogleImageProxy", "YahooMailProxy"}

// List knows bots. It is safe for concurrent use.
type List struct {
	anywhere map[gram][]string // a user agent that contains one of these words is a bot's; by how they begin
	begins   []string          // so is one that begins with one of these
	others   []*regexp.Regexp  // one by one: most begin with a text, which is found quickly

	mu       sync.RWMutex
	verdicts map[string]bool // of user agents seen of late
	before   map[string]bool // of those seen before them
}

// gram is how a word begins.
type gram [3]byte

// A look at the list takes some microseconds, so verdicts are remembered:
// at most twice maxVerdicts, of user agents that are cut at maxAgentBytes.
const (
	maxVerdicts   = 4096
	maxAgentBytes = 512
)

// New reads the list, which takes some milliseconds.
func New() *List {
	l := &List{anywhere: map[gram][]string{}, verdicts: map[string]bool{}}
	for p := range strings.Lines(patterns) {
		p = strings.TrimRight(p, "\r\n")
		if p == "" || slices.Contains(people, p) {
			continue
		}
		rest, either := strings.CutPrefix(p, "(^| )")
		words, begins, ok := plain(rest)
		switch {
		case !ok:
			l.others = append(l.others, regexp.MustCompile(p))
		case either:
			l.begins = append(l.begins, words...)
			for _, w := range words {
				l.add(" " + w)
			}
		case begins:
			l.begins = append(l.begins, words...)
		default:
			for _, w := range words {
				l.add(w)
			}
		}
	}
	return l
}

func (l *List) add(word string) {
	g := gram([]byte(word))
	l.anywhere[g] = append(l.anywhere[g], word)
}

// Is reports whether a user agent is that of a bot. An empty one is not.
func (l *List) Is(agent string) bool {
	if len(agent) > maxAgentBytes {
		agent = agent[:maxAgentBytes]
	}
	l.mu.RLock()
	verdict, known := l.verdicts[agent]
	l.mu.RUnlock()
	if known {
		return verdict
	}
	verdict = l.look(agent)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.verdicts) >= maxVerdicts {
		l.before, l.verdicts = l.verdicts, make(map[string]bool, maxVerdicts)
	}
	l.verdicts[strings.Clone(agent)] = verdict
	return verdict
}

func (l *List) look(agent string) bool {
	l.mu.RLock()
	verdict, known := l.before[agent]
	l.mu.RUnlock()
	if known {
		return verdict
	}
	for i := range len(agent) - len(gram{}) + 1 {
		for _, w := range l.anywhere[gram{agent[i], agent[i+1], agent[i+2]}] {
			if strings.HasPrefix(agent[i:], w) {
				return true
			}
		}
	}
	begins := func(s string) bool { return strings.HasPrefix(agent, s) }
	matches := func(p *regexp.Regexp) bool { return p.MatchString(agent) }
	return slices.ContainsFunc(l.begins, begins) || slices.ContainsFunc(l.others, matches)
}

// plain returns the words for which a pattern stands, if it is no more than a
// choice between a few: looking for a word is much quicker than for a pattern.
func plain(pattern string) (words []string, begins, ok bool) {
	p, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, false, false // it fails again where the rest is compiled
	}
	p = p.Simplify()
	if p.Op == syntax.OpConcat && p.Sub[0].Op == syntax.OpBeginText {
		begins = true
		p.Sub = p.Sub[1:]
	}
	words = spell(p)
	short := func(w string) bool { return len(w) < len(gram{}) }
	return words, begins, words != nil && !slices.ContainsFunc(words, short)
}

// spell returns all texts that p matches, or nothing when they are too many or
// more than texts.
func spell(p *syntax.Regexp) []string {
	const most = 64
	switch p.Op {
	case syntax.OpLiteral:
		words := []string{""}
		for _, r := range p.Rune {
			cases := []string{string(r)}
			for f := unicode.SimpleFold(r); p.Flags&syntax.FoldCase != 0 && f != r; f = unicode.SimpleFold(f) {
				cases = append(cases, string(f))
			}
			if words = join(words, cases); len(words) > most {
				return nil
			}
		}
		return words
	case syntax.OpEmptyMatch:
		return []string{""}
	case syntax.OpCapture:
		return spell(p.Sub[0])
	case syntax.OpQuest:
		if words := spell(p.Sub[0]); words != nil {
			return append(words, "")
		}
	case syntax.OpCharClass:
		var words []string
		for i := 0; i+1 < len(p.Rune); i += 2 {
			if int(p.Rune[i+1]-p.Rune[i])+len(words) >= most {
				return nil
			}
			for r := p.Rune[i]; r <= p.Rune[i+1]; r++ {
				words = append(words, string(r))
			}
		}
		return words
	case syntax.OpAlternate:
		var words []string
		for _, sub := range p.Sub {
			more := spell(sub)
			if more == nil || len(words)+len(more) > most {
				return nil
			}
			words = append(words, more...)
		}
		return words
	case syntax.OpConcat:
		words := []string{""}
		for _, sub := range p.Sub {
			more := spell(sub)
			if more == nil || len(words)*len(more) > most {
				return nil
			}
			words = join(words, more)
		}
		return words
	}
	return nil
}

// join returns every word with every end.
func join(words, ends []string) []string {
	all := make([]string, 0, len(words)*len(ends))
	for _, w := range words {
		for _, e := range ends {
			all = append(all, w+e)
		}
	}
	return all
}
