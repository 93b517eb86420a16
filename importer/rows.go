package importer

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strings"
)

// readAhead is how much of the file is read at a time.
const readAhead = 64 << 10

// rows reads the rows of a file (RFC 4180, with any delimiter and with \n as
// the end of a line too). It is encoding/csv with bounds: a row that is too
// long, because a quote is missing for example, is one bad row, and the lines
// behind its first one are read again as rows of their own.
type rows struct {
	file  io.ReaderAt
	size  int64
	comma rune
	most  int64 // bytes of a row

	base     int64  // where window begins in the file
	baseLine uint64 // the line of it
	blank    int64  // bytes that csv has not seen: lines that are blank or bad
	blanks   uint64 // how many lines
	window   *window
	text     *bufio.Reader // which csv reads, too
	csv      *csv.Reader
	line     uint64 // of offset
}

// row is one row. One that cannot be read has no cells and says why.
type row struct {
	line  uint64 // where it begins, from 1
	cells []string
	bad   flaw   // why it cannot be read
	head  string // how one that cannot be read begins
}

// flaw is what is wrong and how to mend it.
type flaw struct{ reason, fix string }

// newRows reads a file from a place on where a row begins.
func newRows(file io.ReaderAt, size int64, comma rune, most int, offset int64, line uint64) *rows {
	r := &rows{file: file, size: size, comma: comma, most: int64(most), text: bufio.NewReaderSize(nil, readAhead)}
	r.begin(offset, line)
	return r
}

func (r *rows) begin(offset int64, line uint64) {
	r.base, r.baseLine, r.line, r.blank, r.blanks = offset, line, line, 0, 0
	r.window = &window{from: io.NewSectionReader(r.file, offset, r.size-offset)}
	r.text.Reset(r.window)
	r.csv = csv.NewReader(r.text) // a bufio.Reader is used as it is
	r.csv.Comma, r.csv.FieldsPerRecord, r.csv.ReuseRecord = r.comma, -1, true
}

// offset is where the next row, or a blank line before it, begins.
func (r *rows) offset() int64 { return r.base + r.blank + r.csv.InputOffset() }

// lineOf turns a line as csv counts it, from 1, into one of the file.
func (r *rows) lineOf(line int) uint64 { return r.baseLine + r.blanks + uint64(line) - 1 }

// next returns the next row, whose cells stay until the one after it, and
// io.EOF at the end. Any other error is the file's.
func (r *rows) next() (row, error) {
	if err := r.skipBlank(); err != nil {
		return row{}, err
	}
	start, startLine := r.offset(), r.line
	r.window.until = start - r.base + r.most + readAhead
	cells, err := r.csv.Read()
	if r.window.hit {
		return r.skip(start, startLine, tooLong(r.most))
	}
	var parse *csv.ParseError
	switch {
	case err == nil:
		last, _ := r.csv.FieldPos(len(cells) - 1)
		found := row{line: startLine, cells: cells}
		r.line = r.lineOf(last + strings.Count(cells[len(cells)-1], "\n") + 1)
		if r.offset()-start > r.most {
			return row{line: startLine, head: r.headAt(start), bad: tooLong(r.most)}, nil
		}
		return found, nil
	case !errors.As(err, &parse):
		return row{}, err
	}
	last := r.lineOf(parse.Line)
	if errors.Is(parse.Err, csv.ErrQuote) && (last > startLine || r.offset() >= r.size) {
		// The quote that opened the field may be the mistake: what follows its
		// line gets another chance.
		return r.skip(start, startLine, flaw{
			fmt.Sprintf("a field in quotes begins here and does not end well, up to line %d", last), fixQuote,
		})
	}
	r.line = last + 1
	found := row{line: startLine, head: r.headAt(start), bad: flaw{
		fmt.Sprintf("there is text behind the quote that ends a field (byte %d)", parse.Column), fixQuote,
	}}
	if errors.Is(parse.Err, csv.ErrBareQuote) {
		found.bad.reason = fmt.Sprintf("there is a quote within a field that does not begin with one (byte %d)", parse.Column)
	}
	return found, nil
}

const fixQuote = `put the whole field into quotes, and write a quote within it twice: "The ""Sun"" Inn"`

// skipBlank goes to the next line that is not blank.
func (r *rows) skipBlank() error {
	for {
		r.window.until = r.window.read + readAhead
		b, err := r.text.Peek(2)
		if len(b) == 0 {
			return err
		}
		n := int64(0)
		switch {
		case b[0] == '\n':
			n = 1
		case string(b) == "\r\n", string(b) == "\r": // the latter ends the file
			n = int64(len(b))
		default:
			return nil
		}
		if _, err := r.text.Discard(int(n)); err != nil {
			return err
		}
		r.blank += n
		r.blanks++
		r.line++
	}
}

// tooLong says that a row is longer than most bytes.
func tooLong(most int64) flaw {
	return flaw{fmt.Sprintf("the row has more than %d bytes, or a quote that opens a field in it is never closed", most), "close the quote, or shorten the row"}
}

// window is a reader that goes no further than it is told, so that a row
// without an end is not read into memory as a whole.
type window struct {
	from  io.Reader
	read  int64
	until int64
	hit   bool // it was asked for more
}

var errLong = errors.New("the row is too long")

// Read reads on, as far as allowed.
func (w *window) Read(p []byte) (int, error) {
	left := w.until - w.read
	if left <= 0 {
		w.hit = true
		return 0, errLong
	}
	if int64(len(p)) > left {
		p = p[:left]
	}
	n, err := w.from.Read(p)
	w.read += int64(n)
	return n, err
}

// skip makes a bad row of the line at a place, and has the next row begin
// behind that line.
func (r *rows) skip(offset int64, line uint64, why flaw) (row, error) {
	found := row{line: line, head: r.headAt(offset), bad: why}
	r.begin(offset, line)
	for {
		r.window.until = r.window.read + readAhead
		piece, err := r.text.ReadSlice('\n')
		r.blank += int64(len(piece))
		switch {
		case err == nil, errors.Is(err, io.EOF):
			r.blanks++
			r.line++
			return found, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return row{}, err
		}
	}
}

// headAt returns how the text at a place begins.
func (r *rows) headAt(offset int64) string {
	b := make([]byte, maxShown+4)
	n, _ := r.file.ReadAt(b, offset) // what is there is there
	text := strings.TrimLeft(string(b[:n]), "\r\n")
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		text = strings.TrimRight(text[:i], "\r")
	}
	return head(text, maxShown)
}
