package identity

import (
	"cmp"
	"slices"

	"kith/commitlog"
	"kith/event"
	"kith/pipeline"
)

// decide finds the person and the account of an event (sheet
// unify_engage_privacy §1.3).
func (p *pass) decide(r *pipeline.Record, rs *rules, res *Resolution) error {
	if res.found.filter != nil {
		p.keepOut(r, res)
		return nil
	}
	if res.found.optedOut {
		res.Reason = OptedOut
		p.emit(r, event.ProfileID{}, pipeline.Change{Kind: pipeline.IdentifierRefused, Detail: OptedOut})
		p.refused.note(r, res)
		return nil
	}
	res.Refused = slices.Clip(res.found.refused)
	orders, err := p.ordersFor(rs)
	if err != nil {
		return err
	}
	ids, err := p.register(r, rs, res, orders.block(res.found.ids, res))
	if err != nil {
		return err
	}
	users, accounts := split(ids)
	var given bool
	if res.Profile, given = p.stage.owned(event.Users, r.Offset); !given {
		if res.Profile, err = p.settle(r, rs, res, users); err != nil {
			return err
		}
	}
	if res.Account, given = p.stage.owned(event.Accounts, r.Offset); !given {
		if res.Account, err = p.settle(r, rs, res, accounts); err != nil {
			return err
		}
	}
	r.Profile, r.Account = res.Profile, res.Account
	if res.Profile.IsZero() && res.Account.IsZero() {
		res.Reason = NoIdentifiers
	}
	if r.Type == event.Group && !res.Profile.IsZero() && !res.Account.IsZero() {
		if err := p.join(r, res); err != nil {
			return err
		}
	}
	p.tell(r, res)
	p.refused.note(r, res)
	p.sight(r, res)
	return nil
}

// register adds the types that nobody declared to the rules, as far as there
// is room, and returns the identifiers whose type is known.
func (p *pass) register(r *pipeline.Record, rs *rules, res *Resolution, ids []event.Identifier) ([]event.Identifier, error) {
	for i, id := range ids {
		if rs.of(id.Collection, id.Type) != nil || p.registered(id) {
			continue
		}
		if len(p.types) < MaxRegisteredTypes {
			p.types = append(p.types, RegisteredType{Collection: id.Collection, Type: id.Type, Offset: r.Offset, At: r.At})
			p.retyped = true
			continue
		}
		res.Refused = append(res.Refused, Refusal{Identifier: id, Violation: TooManyTypes})
		kept := slices.Clone(ids[:i])
		for _, id := range ids[i+1:] {
			if rs.of(id.Collection, id.Type) != nil || p.registered(id) {
				kept = append(kept, id)
			} else {
				res.Refused = append(res.Refused, Refusal{Identifier: id, Violation: TooManyTypes})
			}
		}
		return kept, nil
	}
	return ids, nil
}

func (p *pass) registered(id event.Identifier) bool {
	return slices.ContainsFunc(p.types, func(t RegisteredType) bool { return t.Type == id.Type && t.Collection == id.Collection })
}

// split returns the identifiers of users and those of accounts, as two parts
// of the list where they lie so.
func split(ids []event.Identifier) (users, accounts []event.Identifier) {
	n := 0
	for n < len(ids) && ids[n].Collection == event.Users {
		n++
	}
	users, accounts = ids[:n:n], ids[n:]
	if slices.ContainsFunc(accounts, func(id event.Identifier) bool { return id.Collection == event.Users }) {
		accounts = nil
		for _, id := range ids[n:] {
			if id.Collection == event.Users {
				users = append(users, id)
			} else {
				accounts = append(accounts, id)
			}
		}
	}
	return users, accounts
}

// settle finds the one profile of a collection that identifiers on an event
// lead to: it creates, extends and merges profiles as the rules allow.
func (p *pass) settle(r *pipeline.Record, rs *rules, res *Resolution, ids []event.Identifier) (event.ProfileID, error) {
	if len(ids) == 0 {
		return event.ProfileID{}, nil
	}
	var list [8]candidate
	candidates := list[:0]
	settled := true // all belong to one profile
	for _, id := range ids {
		owner, err := p.owner(id)
		if err != nil {
			return owner, err
		}
		c := candidate{id: id, owner: owner}
		if !owner.IsZero() && rs.expires(id) {
			if c.stale, err = p.expired(owner, id, r.Time-rs.of(id.Collection, id.Type).validFor); err != nil {
				return owner, err
			}
			if c.stale {
				c.owner, c.before = event.ProfileID{}, owner
			}
		}
		candidates = append(candidates, c)
		settled = settled && !c.owner.IsZero() && c.owner == candidates[0].owner
	}
	if settled {
		return candidates[0].owner, nil
	}
	u, err := p.unite(r, rs, res, candidates)
	if err != nil {
		return event.ProfileID{}, err
	}
	return p.apply(r, res, u)
}

// candidate is an identifier on an event and whose it is; zero: nobody's.
type candidate struct {
	id    event.Identifier
	owner event.ProfileID
	// stale says that the identifier is valid no more for the profile before
	// that has it: it is as good as nobody's, and goes to who it is used for.
	stale  bool
	before event.ProfileID
}

// union is the profile that would come of an event: the owners of the
// identifiers it uses, and those identifiers of which nobody is the owner.
type union struct {
	rules  *rules
	orders *orders // nil when there are none
	time   int64   // the event's
	kept   []event.Identifier
	owners []*node
	news   []event.Identifier
	stale  []candidate // of news, those that leave a profile
	size   int         // identifiers in all
	sides  []side      // on which it stands
}

// unite decides which identifiers the event uses: from the highest rank down,
// each that keeps the profile within the limits. Of two of one rank, that
// which has an owner goes first, then that which comes first on the event.
func (p *pass) unite(r *pipeline.Record, rs *rules, res *Resolution, candidates []candidate) (*union, error) {
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		known := func(c candidate) int {
			if c.owner.IsZero() {
				return 1
			}
			return 0
		}
		return cmp.Or(rs.compare(a.id.Collection, a.id.Type, b.id.Collection, b.id.Type), cmp.Compare(known(a), known(b)))
	})
	orders, err := p.ordersFor(rs)
	if err != nil {
		return nil, err
	}
	u := &union{rules: rs, orders: orders, time: r.Time}
	for _, c := range candidates {
		var refusal Refusal
		if c.owner.IsZero() {
			refusal, err = u.addNew(c.id)
		} else {
			owner, err2 := p.newest(c.owner)
			if err2 != nil {
				return nil, err2
			}
			if owner == nil {
				return nil, errStored
			}
			refusal, err = u.addOwner(owner)
		}
		if err != nil {
			return nil, err
		}
		if refusal.Violation != "" {
			refusal.Identifier, refusal.Owner = c.id, c.owner
			res.Refused = append(res.Refused, refusal)
			continue
		}
		u.kept = append(u.kept, c.id)
		if c.stale {
			u.stale = append(u.stale, c)
		}
	}
	return u, nil
}

// addNew adds an identifier that is nobody's, or says what stands against it.
func (u *union) addNew(id event.Identifier) (against Refusal, err error) {
	var sides []side
	if u.orders != nil {
		sides = u.orders.sides[id]
		if by, apart := u.orders.between(u.sides, sides); apart {
			return separatedBy(by), nil
		}
	}
	limit, window := u.rules.limit(id.Collection, id.Type)
	n, err := u.count(id.Type, window)
	if err != nil {
		return against, err
	}
	if n+1 > limit {
		return beyond(id.Type, limit, window), nil
	}
	if u.size+1 > MaxIdentifiers {
		return Refusal{Violation: TooManyIdentifiers}, nil
	}
	u.news = append(u.news, id)
	u.sides = append(u.sides, sides...)
	u.size++
	return against, nil
}

// addOwner adds a profile with all its identifiers, or says what stands
// against it: a command, or the highest type whose limit does. What is beyond
// a limit in one profile alone is no reason, since nothing is added to it.
func (u *union) addOwner(owner *node) (against Refusal, err error) {
	if slices.Contains(u.owners, owner) {
		return against, nil
	}
	var sides []side
	if u.orders != nil {
		if sides, err = u.orders.sidesOf(owner); err != nil {
			return against, err
		}
		if by, apart := u.orders.between(u.sides, sides); apart {
			return separatedBy(by), nil
		}
	}
	if u.size > 0 {
		if against, err = u.conflict(owner); err != nil || against.Violation != "" {
			return against, err
		}
		if u.size+owner.ids.len() > MaxIdentifiers || !u.movable(owner) {
			return Refusal{Violation: TooManyIdentifiers}, nil
		}
	}
	u.owners = append(u.owners, owner)
	u.sides = append(u.sides, sides...)
	u.size += owner.ids.len()
	return against, nil
}

// movable reports whether a transaction has room for a merge with one more
// profile: it writes the identifiers of all but the oldest anew.
func (u *union) movable(owner *node) bool {
	if len(u.owners) == 0 {
		return true
	}
	total, oldest := owner.size(), owner
	for _, o := range u.owners {
		total += o.size()
		if o.created.Offset < oldest.created.Offset {
			oldest = o
		}
	}
	return total-oldest.size() <= maxMoved
}

// conflict says which limit stands against adding a profile to others.
func (u *union) conflict(owner *node) (against Refusal, err error) {
	var checked [8]string
	names := checked[:0]
	owner.types(func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	})
	for _, name := range names {
		if worst := against.Against.Type; worst != "" && u.rules.compare(owner.collection, name, owner.collection, worst) > 0 {
			continue
		}
		limit, window := u.rules.limit(owner.collection, name)
		mine, err := owner.count(name, u.time, window)
		if err != nil {
			return against, err
		}
		others, err := u.count(name, window)
		if err != nil {
			return against, err
		}
		if mine > 0 && others > 0 && mine+others > limit {
			against = beyond(name, limit, window)
		}
	}
	return against, nil
}

// count returns how many identifiers of a type the profile would hold so far.
func (u *union) count(name string, window int64) (int, error) {
	total := 0
	for _, o := range u.owners {
		n, err := o.count(name, u.time, window)
		if err != nil {
			return 0, err
		}
		total += n
	}
	for _, id := range u.news {
		if id.Type == name {
			total++
		}
	}
	return total, nil
}

// beyond is the refusal of what would exceed a type's limit.
func beyond(name string, limit int, window int64) Refusal {
	violation := LimitExceeded
	if window > 0 {
		violation = TimeLimitExceeded
	}
	return Refusal{Violation: violation, Against: Against{Type: name, Limit: limit, Window: window}}
}

// separatedBy is the refusal of what a command keeps apart.
func separatedBy(command commitlog.Offset) Refusal {
	return Refusal{Violation: Separated, Against: Against{ByCommand: true, Command: command}}
}

// apply makes the union one profile and returns its id.
func (p *pass) apply(r *pipeline.Record, res *Resolution, u *union) (event.ProfileID, error) {
	if len(u.owners) == 1 && len(u.news) == 0 {
		return u.owners[0].id, nil // what was refused is all that was odd
	}
	cause := Cause{Offset: r.Offset, At: r.At, Time: r.Time, MessageID: r.MessageID, SourceID: r.Head.Source}
	next := &node{id: event.UserProfile(r.ID), created: cause}
	identifiers, merged := 0, 0
	if len(u.owners) == 0 {
		next.collection = u.news[0].Collection
		if next.collection == event.Accounts {
			next.id = event.AccountProfile(r.ID)
			res.AccountCreated = true
		} else {
			res.Created = true
		}
	} else {
		// The profile created first survives.
		slices.SortFunc(u.owners, func(a, b *node) int { return cmp.Compare(a.created.Offset, b.created.Offset) })
		next = u.owners[0].next()
		identifiers, merged = next.ids.len(), next.merged.len()
		for _, child := range u.owners[1:] {
			if err := p.merge(r, res, u, next, child); err != nil {
				return next.id, err
			}
		}
	}
	for _, c := range u.stale {
		if err := p.expire(r, c, next); err != nil {
			return next.id, err
		}
	}
	for _, id := range u.news {
		next.ids.tail = append(next.ids.tail, Identified{
			Identifier: id, At: cause.Time, Offset: cause.Offset, MessageID: cause.MessageID, SourceID: cause.SourceID,
		})
		p.own(id, next.id)
	}
	if u.orders != nil {
		next.sides, next.sidesIn = u.sides, u.orders
	}
	res.Attached = append(res.Attached, u.news...)
	p.put(next)
	res.grown = append(res.grown, growth{next, identifiers, merged})
	return next.id, nil
}

// merge makes child a part of the survivor.
func (p *pass) merge(r *pipeline.Record, res *Resolution, u *union, survivor, child *node) error {
	ids, err := child.ids.all()
	if err != nil {
		return err
	}
	merged, err := child.merged.all()
	if err != nil {
		return err
	}
	if err := p.countMerge(survivor, child, r.At); err != nil {
		return err
	}
	survivor.ids.tail = append(survivor.ids.tail, ids...)
	survivor.merged.tail = append(append(survivor.merged.tail, child.id), merged...)
	for i := range ids {
		p.own(ids[i].Identifier, survivor.id)
	}
	l := &Link{Child: child.id, Parent: survivor.id, Record: r.ID, Offset: r.Offset, At: r.At, Via: u.kept}
	if r.Snapshot != nil {
		l.Snapshot = r.Snapshot.Number
	}
	p.links[child.id] = link{l, p.seq}
	p.joined = append(p.joined, child.id)
	res.Merged = append(res.Merged, Merge{From: child.id, Into: survivor.id})
	return nil
}

// join makes the event's person a user of its account, if that is new.
func (p *pass) join(r *pipeline.Record, res *Resolution) error {
	pair := [2]event.ProfileID{res.Profile, res.Account}
	m, ok := p.members[pair]
	if !ok {
		value, err := p.batch.Tx.Get(p.read.keys.member(pair[0], pair[1]))
		if err != nil {
			return err
		}
		if value != nil {
			stored, err := decodeMember(pair[1], value)
			if err != nil {
				return err
			}
			m = &stored
		}
	}
	if m == nil {
		m = &Member{Offset: r.Offset, Time: r.Time}
		p.linked = append(p.linked, pair)
		before, err := p.linkedBefore(r, res)
		if err != nil {
			return err
		}
		res.Linked = !before
	}
	p.members[pair] = m
	return nil
}

// linkedBefore reports whether a merge has made a user and an account of those
// who were linked under other ids.
func (p *pass) linkedBefore(r *pipeline.Record, res *Resolution) (bool, error) {
	if res.Created || res.AccountCreated {
		return false, nil
	}
	user, err := p.newest(res.Profile)
	if err != nil {
		return false, err
	}
	account, err := p.newest(res.Account)
	if err != nil || user == nil || account == nil || user.merged.len()+account.merged.len() == 0 {
		return false, err
	}
	pairs, err := p.memberships(res.Profile, res.Account, r.Offset)
	return len(pairs) > 0, err
}

// emit puts out a change that a record has caused.
func (p *pass) emit(r *pipeline.Record, profile event.ProfileID, c pipeline.Change) {
	c.Cause = r.ID
	p.batch.Emit(pipeline.Output{At: r.At, Profile: profile, Change: &c})
}

// tell emits what has changed.
func (p *pass) tell(r *pipeline.Record, res *Resolution) {
	emit := func(profile event.ProfileID, c pipeline.Change) { p.emit(r, profile, c) }
	whose := func(id event.Identifier) event.ProfileID {
		if id.Collection == event.Accounts {
			return res.Account
		}
		return res.Profile
	}
	if res.Created {
		emit(res.Profile, pipeline.Change{Kind: pipeline.ProfileCreated})
	}
	if res.AccountCreated {
		emit(res.Account, pipeline.Change{Kind: pipeline.ProfileCreated, Detail: "account"})
	}
	for _, m := range res.Merged {
		emit(m.Into, pipeline.Change{Kind: pipeline.ProfilesMerged, Other: m.From})
	}
	for _, id := range res.Attached {
		emit(whose(id), pipeline.Change{Kind: pipeline.IdentifierAttached, Subject: id.Type + ":" + id.Value})
	}
	for _, f := range res.Refused {
		emit(whose(f.Identifier), pipeline.Change{Kind: pipeline.IdentifierRefused, Subject: f.Type + ":" + f.Value, Detail: f.Violation})
	}
	for _, g := range res.grown {
		p.warn(r, g)
	}
	if res.Linked {
		emit(res.Profile, pipeline.Change{Kind: pipeline.AccountJoined, Other: res.Account})
	}
	if res.Reason == NoIdentifiers {
		emit(event.ProfileID{}, pipeline.Change{Kind: pipeline.IdentifierRefused, Detail: NoIdentifiers})
	}
}
