package identity_test

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"kith/commitlog"
	"kith/event"
	"kith/identity"
	"kith/kv"
	"kith/kv/memkv"
	"kith/pipeline"
	"kith/workspace"
)

// person is one record of a data set: who it is in truth, and what identifies
// it; empty: nothing does but itself.
type person struct{ id, truth, key string }

// score is what a set of rules makes of a data set.
type score struct {
	clusters, pairs, wrong, all int // pairs that are one person in truth, those that are not, and those that should be
}

func (s score) String() string {
	return fmt.Sprintf("%d clusters; precision %.4f, recall %.4f (%d of %d true pairs, %d false)", s.clusters,
		float64(s.pairs)/float64(max(1, s.pairs+s.wrong)), float64(s.pairs)/float64(max(1, s.all)), s.pairs, s.all, s.wrong)
}

// TestGroundTruth feeds data sets in which the true person is known through
// the stage, as events that carry one identifier, and compares who became one
// with the known result of that rule, in whatever order the events arrive. It
// needs KITH_DATASETS, the folder of the data sets, and is skipped without.
func TestGroundTruth(t *testing.T) {
	folder := os.Getenv("KITH_DATASETS")
	if folder == "" {
		t.Skip("KITH_DATASETS names no folder with data sets")
	}
	field := func(names ...string) func(map[string]string) string {
		return func(row map[string]string) string {
			var parts []string
			for _, n := range names {
				if row[n] == "" {
					return ""
				}
				parts = append(parts, row[n])
			}
			return strings.Join(parts, "|")
		}
	}
	febrl := func(row map[string]string) string { return strings.Split(row["rec_id"], "-")[1] }
	tests := []struct {
		file       string
		truth, key func(map[string]string) string
		id         string
		want       score
	}{
		{"febrl_dataset1.csv", febrl, field("soc_sec_id"), "rec_id", score{550, 450, 0, 500}},
		{"febrl_dataset2.csv", febrl, field("soc_sec_id"), "rec_id", score{4089, 1686, 0, 1934}},
		{"febrl_dataset3.csv", febrl, field("soc_sec_id"), "rec_id", score{2291, 5601, 0, 6538}},
		{"splink_fake_1000.csv", field("cluster"), field("email"), "unique_id", score{635, 682, 0, 2031}},
		{"historical_persons_50k.csv.gz", field("cluster"), field("full_name", "dob"), "unique_id", score{37720, 27730, 106, 303961}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			var people []person
			for _, row := range rows(t, filepath.Join(folder, "identity", tt.file)) {
				people = append(people, person{row[tt.id], tt.truth(row), tt.key(row)})
			}
			parts := resolved(t, people)
			got := scoreOf(people, parts)
			t.Log(got)
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			for seed := range uint64(2) {
				random := rand.New(rand.NewPCG(seed, 1))
				shuffled := slices.Clone(people)
				random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
				if !gocmp.Equal(parts, resolved(t, shuffled)) {
					t.Errorf("in the order of seed %d others became one", seed)
				}
			}
		})
	}
}

// rows reads a file of comma-separated values with a header.
func rows(t *testing.T, name string) (list []map[string]string) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var in io.Reader = file
	if strings.HasSuffix(name, ".gz") {
		if in, err = gzip.NewReader(file); err != nil {
			t.Fatal(err)
		}
	}
	all, err := csv.NewReader(in).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, fields := range all[1:] {
		row := map[string]string{}
		for i, f := range fields {
			row[strings.TrimSpace(all[0][i])] = strings.TrimSpace(f)
		}
		list = append(list, row)
	}
	return list
}

// resolved sends every person's record and returns who became one: for each
// record the least id of its cluster.
func resolved(t *testing.T, people []person) map[string]string {
	t.Helper()
	db, stage := memkv.New(), identity.New(&pipeline.Layout{})
	snapshot := &workspace.Snapshot{Number: 1, Spaces: []workspace.Space{{ID: "spa_1", Number: 1, Identifiers: []workspace.IdentifierRule{
		{Type: "user_id"}, {Type: "record", Limit: 1_000_000}, {Type: "key"}}}}}
	snapshot.Seal()
	call, err := event.Parse([]byte(`{"type":"identify"}`))
	if err != nil {
		t.Fatal(err)
	}
	for from := 0; from < len(people); from += benchBatch {
		var records []*pipeline.Record
		for i, p := range people[from:min(from+benchBatch, len(people))] {
			r := &pipeline.Record{Offset: commitlog.Offset(from + i), Event: call, Snapshot: snapshot}
			r.Head = event.Head{Kind: event.KindEvent, At: 1, Time: 1, Type: event.Identify, MessageID: p.id}
			r.IDs = []event.Identifier{{Collection: event.Users, Type: "record", Value: p.id}}
			if p.key != "" {
				r.IDs = append(r.IDs, event.Identifier{Collection: event.Users, Type: "key", Value: p.key})
			}
			binary.BigEndian.PutUint64(r.ID[8:], uint64(from+i+1)) // zero is nobody
			records = append(records, r)
		}
		run(t, db, stage, records)
	}
	least, of := map[event.ProfileID]string{}, map[string]event.ProfileID{}
	err = db.View(context.Background(), func(r kv.Reader) error {
		read := identity.NewReader(r, 1, 0)
		for _, p := range people {
			owner, err := read.Lookup(event.Users, "record", p.id)
			if err != nil {
				return err
			}
			of[p.id] = owner
			if least[owner] == "" || cmp.Less(p.id, least[owner]) {
				least[owner] = p.id
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for id, owner := range of {
		parts[id] = least[owner]
	}
	return parts
}

func scoreOf(people []person, parts map[string]string) score {
	truth, inside, both := map[string]int{}, map[string]int{}, map[[2]string]int{}
	for _, p := range people {
		truth[p.truth]++
		inside[parts[p.id]]++
		both[[2]string{p.truth, parts[p.id]}]++
	}
	s := score{clusters: len(inside)}
	made := 0
	for _, n := range inside {
		made += n * (n - 1) / 2
	}
	for _, n := range both {
		s.pairs += n * (n - 1) / 2
	}
	for _, n := range truth {
		s.all += n * (n - 1) / 2
	}
	s.wrong = made - s.pairs
	return s
}
