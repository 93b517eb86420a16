package api

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"kith/event"
	"kith/fault"
)

// Page sizes. Segment's clients ask for 200 at most.
const (
	defaultCount = 100
	maxCount     = 1000
)

// Paging is the parameters of a list: pagination[count] and
// pagination[cursor], as the SDKs send them, or with a dot, as documented.
type Paging struct {
	Pagination pageWanted `query:"pagination,deepObject" doc:"Which page"`
	Count      int        `query:"pagination.count" doc:"The same as pagination[count]"`
	Cursor     string     `query:"pagination.cursor" doc:"The same as pagination[cursor]"`
}

// pageWanted has a name, since without one its schema would have none.
type pageWanted struct {
	Count  int    `json:"count,omitempty" doc:"How many, 1 to 1,000; 100 when missing"`
	Cursor string `json:"cursor,omitempty" doc:"Where to go on: next or previous of another page"`
}

// pageInfo says where a page stands.
type pageInfo struct {
	Current      string  `json:"current" doc:"The cursor of this page"`
	Next         *string `json:"next" doc:"The cursor of the next page; null on the last"`
	Previous     *string `json:"previous" doc:"The cursor of the page before; null on the first"`
	TotalEntries *int    `json:"totalEntries,omitempty" doc:"How many there are in all"`
}

func (p *Paging) want() (count int, cursor string, err error) {
	count = cmp.Or(p.Pagination.Count, p.Count, defaultCount)
	if count < 1 || count > maxCount {
		return 0, "", fault.Field("pagination.count", "want 1 to %d, not %d", maxCount, count)
	}
	return count, cmp.Or(p.Pagination.Cursor, p.Cursor), nil
}

// firstPage is the cursor of the first page, as in Segment: base64 of "0".
const firstPage = "MA=="

// cursorAfter is the cursor of the page that begins behind a key.
func cursorAfter(key string) string { return base64.StdEncoding.EncodeToString([]byte(">" + key)) }

// paged returns a page of a list, whose keys are unique. A cursor is the key
// behind which the page begins, so that what comes and goes meanwhile moves
// nothing else to another page.
func paged[T any](list []T, key func(*T) string, p *Paging) ([]T, pageInfo, error) {
	return pagedIn(list, key, false, p)
}

// pagedIn is paged for a list that goes down by its keys when down is set.
func pagedIn[T any](list []T, key func(*T) string, down bool, p *Paging) ([]T, pageInfo, error) {
	compare := strings.Compare
	if down {
		compare = func(a, b string) int { return strings.Compare(b, a) }
	}
	count, cursor, err := p.want()
	if err != nil {
		return nil, pageInfo{}, err
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b T) int { return compare(key(&a), key(&b)) })
	begin := 0
	info := pageInfo{Current: firstPage, TotalEntries: ptr(len(list))}
	if cursor != "" && cursor != firstPage {
		raw, err := base64.StdEncoding.DecodeString(cursor)
		after, ok := strings.CutPrefix(string(raw), ">")
		if err != nil || !ok {
			return nil, pageInfo{}, fault.Field("pagination.cursor", "%q is no cursor of a page", cursor)
		}
		for begin < len(list) && compare(key(&list[begin]), after) <= 0 {
			begin++
		}
		info.Current = cursor
	}
	if begin > 0 {
		info.Previous = ptr(firstPage)
		if before := begin - count; before > 0 {
			info.Previous = ptr(cursorAfter(key(&list[before-1])))
		}
	}
	end := min(begin+count, len(list))
	if end < len(list) {
		info.Next = ptr(cursorAfter(key(&list[end-1])))
	}
	page := list[begin:end]
	if page == nil {
		page = []T{}
	}
	return page, info, nil
}

// passed returns the page info of a list whose room has cursors of its own.
func passed(cursor, next string) pageInfo {
	info := pageInfo{Current: cmp.Or(cursor, firstPage)}
	if next != "" {
		info.Next = &next
	}
	return info
}

// wantPassed is want for such a list.
func (p *Paging) wantPassed(most int) (count int, cursor string, err error) {
	count, cursor, err = p.want()
	if cursor == firstPage {
		cursor = ""
	}
	return min(count, most), cursor, err
}

func ptr[T any](v T) *T { return &v }

// when writes an instant as Segment does.
func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return event.FormatTime(t)
}

// each converts a list; the result is never nil, so that JSON shows [].
func each[T, O any](list []T, fn func(*T) O) []O {
	out := make([]O, 0, len(list))
	for i := range list {
		out = append(out, fn(&list[i]))
	}
	return out
}
