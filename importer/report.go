package importer

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
)

// The columns that a report has before those of the file.
const (
	reportRow    = "kith_row"
	reportLine   = "kith_line"
	reportColumn = "kith_column"
	reportValue  = "kith_value"
	reportError  = "kith_error"
	reportFix    = "kith_fix"
)

// reportColumns returns them in their order. An upload that has them is a
// report that somebody has mended: they are ignored.
func reportColumns() []string {
	return []string{reportRow, reportLine, reportColumn, reportValue, reportError, reportFix}
}

// report writes the errors of an import: CSV in UTF-8, one row for each row
// that was not sent, in the order of the file, with the row as it was. It never
// grows above its bound.
type report struct {
	file    *os.File
	columns int
	most    int64
	bytes   int64
	grown   bool // since it was last made durable
	text    bytes.Buffer
	csv     *csv.Writer
}

// openReport opens a report and cuts off what was written into it behind bytes,
// which is what the job knows of. A new one gets its header.
func openReport(path string, columns []Column, bytes, most int64) (*report, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	r := &report{file: f, columns: len(columns), most: most, bytes: bytes}
	r.csv = csv.NewWriter(&r.text)
	if err := f.Truncate(bytes); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(bytes, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if bytes == 0 {
		header := reportColumns()
		for i := range columns {
			header = append(header, columns[i].Header)
		}
		if _, err := r.write(header); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return r, nil
}

// add writes what is wrong with a row, and reports whether there was room.
func (r *report) add(number, line uint64, cells []string, problems []problem) (bool, error) {
	var columns, values, reasons, fixes []string
	for i, p := range problems {
		if i == maxProblems {
			break
		}
		if len(problems) > 1 && p.column != "" {
			p.reason = p.column + " " + p.reason
		}
		for _, of := range []struct {
			to   *[]string
			text string
		}{{&columns, p.column}, {&values, p.value}, {&reasons, p.reason}, {&fixes, p.fix}} {
			if of.text != "" && (of.to != &fixes || len(fixes) == 0 || fixes[len(fixes)-1] != of.text) {
				*of.to = append(*of.to, of.text)
			}
		}
	}
	join := func(parts []string) string { return strings.Join(parts, "; ") }
	record := append([]string{
		strconv.FormatUint(number, 10), strconv.FormatUint(line, 10), join(columns), join(values), join(reasons), join(fixes),
	}, cells...)
	for len(record) < len(reportColumns())+r.columns {
		record = append(record, "")
	}
	return r.write(record)
}

func (r *report) write(record []string) (bool, error) {
	r.text.Reset()
	if err := r.csv.Write(record); err != nil {
		return false, err
	}
	r.csv.Flush()
	if err := r.csv.Error(); err != nil {
		return false, err
	}
	if r.bytes+int64(r.text.Len()) > r.most {
		return false, nil
	}
	n, err := r.file.Write(r.text.Bytes())
	r.bytes += int64(n)
	r.grown = true
	return err == nil, err
}

// sync makes durable what was written.
func (r *report) sync() error {
	if !r.grown {
		return nil
	}
	r.grown = false
	return r.file.Sync()
}
