package fat

import (
	"encoding/binary"
	"errors"
)

// object is what a path leads to.
type object struct {
	directory
	name name
	root bool     // it is the root directory itself
	path []uint32 // first clusters of the directories on the way, but the root
}

// walk follows a path. Where only the last part of it does not exist, the
// object says where it would be, and the error is ErrNotExist.
func (fs *FS) walk(path string) (*object, error) {
	o := &object{directory: directory{fs: fs}}
	path = trimPath(path)
	if path == "" {
		o.root = true
		return o, o.seek(0)
	}
	for {
		n, rest, err := firstName(path)
		if err != nil {
			return nil, err
		}
		o.name = n
		err = o.find(&n)
		switch {
		case errors.Is(err, ErrNotExist) && rest != "":
			return nil, ErrNoPath
		case err != nil || rest == "":
			return o, err
		case o.attr&attrDirectory == 0:
			return nil, ErrNoPath
		}
		e, err := o.entry()
		if err != nil {
			return nil, err
		}
		o.first = fs.clusterOf(e)
		o.path = append(o.path, o.first)
		path = rest
	}
}

// file makes a File of the entry of an object.
func (o *object) file() (*File, error) {
	e, err := o.entry()
	if err != nil {
		return nil, err
	}
	return &File{
		fs: o.fs, sector: o.sector, offset: o.offset % sectorSize,
		first: o.fs.clusterOf(e), size: binary.LittleEndian.Uint32(e[28:]),
	}, nil
}

// Open opens a file to be read. A directory is an ErrNotExist.
func (fs *FS) Open(path string) (*File, error) {
	o, err := fs.walk(path)
	switch {
	case err != nil:
		return nil, err
	case o.root:
		return nil, ErrInvalidName
	case o.attr&attrDirectory != 0:
		return nil, ErrNotExist
	}
	f, err := o.file()
	if err != nil {
		return nil, err
	}
	if int64(f.size) > int64(fs.limit-2)*fs.clusterSize() {
		return nil, ErrCorrupt // more than the volume holds
	}
	return f, nil
}

// Create makes an empty file, or makes one that exists empty. Read-only files
// and directories are an ErrDenied.
func (fs *FS) Create(path string) (*File, error) {
	o, err := fs.walk(path)
	switch {
	case errors.Is(err, ErrNotExist):
		err = o.register(&o.name)
	case err == nil && o.root:
		err = ErrInvalidName
	case err == nil && o.attr&(attrReadOnly|attrDirectory) != 0:
		err = ErrDenied
	}
	if err != nil {
		return nil, err
	}
	f, err := o.file()
	if err != nil {
		return nil, err
	}
	e, err := o.entry()
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(e[14:], epoch) // created
	binary.LittleEndian.PutUint32(e[22:], epoch)
	e[11] = attrArchive
	fs.setCluster(e, 0)
	binary.LittleEndian.PutUint32(e[28:], 0)
	o.changed()
	if f.first != 0 {
		if err := fs.freeChain(f.first); err != nil {
			return nil, err
		}
		fs.last = f.first - 1 // the new content goes where the old one was
	}
	f.first, f.size, f.writable, f.changed = 0, 0, true, true
	return f, f.Sync()
}

// Touch makes an empty file if there is none. Read-only files and directories
// are an ErrDenied.
func (fs *FS) Touch(path string) error {
	o, err := fs.walk(path)
	switch {
	case errors.Is(err, ErrNotExist):
		_, err := fs.Create(path)
		return err
	case err != nil:
		return err
	case o.root:
		return ErrInvalidName
	case o.attr&(attrReadOnly|attrDirectory) != 0:
		return ErrDenied
	}
	return nil
}

// Remove removes a file or an empty directory. Read-only ones and directories
// with something in them are an ErrDenied.
func (fs *FS) Remove(path string) error {
	o, err := fs.walk(path)
	if err != nil {
		return err
	}
	if o.root {
		return ErrInvalidName
	}
	if o.attr&attrReadOnly != 0 {
		return ErrDenied
	}
	e, err := o.entry()
	if err != nil {
		return err
	}
	first := fs.clusterOf(e)
	if o.attr&attrDirectory != 0 {
		if first == 0 {
			return ErrCorrupt // only the root directory is there
		}
		sub := directory{fs: fs, first: first}
		empty, err := sub.empty()
		if err != nil {
			return err
		}
		if !empty {
			return ErrDenied
		}
	}
	if err := o.remove(); err != nil {
		return err
	}
	if first != 0 {
		if err := fs.freeChain(first); err != nil {
			return err
		}
	}
	return fs.Sync()
}

// Mkdir makes a directory. One that exists is fine; a file of that name is an
// ErrExist.
func (fs *FS) Mkdir(path string) error {
	o, err := fs.walk(path)
	if err == nil {
		if !o.root && o.attr&attrDirectory != 0 {
			return nil
		}
		return ErrExist
	}
	if !errors.Is(err, ErrNotExist) {
		return err
	}
	cluster, err := fs.allocate(0)
	if errors.Is(err, ErrFull) {
		return ErrDenied
	}
	if err != nil {
		return err
	}
	if err := fs.fillDirectory(cluster, o.first); err != nil {
		return err
	}
	if err := o.register(&o.name); err != nil {
		return errors.Join(err, fs.freeChain(cluster), fs.Sync())
	}
	e, err := o.entry()
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(e[22:], epoch)
	fs.setCluster(e, cluster)
	e[11] = attrDirectory
	o.changed()
	return fs.Sync()
}

// fillDirectory makes the content of a new directory.
func (fs *FS) fillDirectory(cluster, parent uint32) error {
	if err := fs.clearCluster(cluster); err != nil {
		return err
	}
	for i, to := range []uint32{cluster, parent} {
		e := fs.win.data[i*entrySize:]
		copy(e, ".          ")
		e[11] = attrDirectory
		binary.LittleEndian.PutUint32(e[22:], epoch)
		fs.setCluster(e, to)
	}
	fs.win.data[entrySize+1] = '.'
	fs.win.dirty = true
	return nil
}

// Rename gives a file or directory another name, which may be in another
// directory. A name that is taken is an ErrExist. A directory cannot go into
// itself.
func (fs *FS) Rename(from, to string) error {
	old, err := fs.walk(from)
	if err != nil {
		return err
	}
	if old.root {
		return ErrInvalidName
	}
	e, err := old.entry()
	if err != nil {
		return err
	}
	var saved [entrySize]byte
	copy(saved[:], e)
	target, err := fs.walk(to)
	if err == nil {
		if target.root || target.first != old.first || target.offset != old.offset {
			return ErrExist
		}
		// Another way to write the same name.
	} else if !errors.Is(err, ErrNotExist) {
		return err
	}
	moved := fs.clusterOf(saved[:])
	if old.attr&attrDirectory != 0 {
		for _, c := range target.path {
			if c == moved {
				return ErrDenied
			}
		}
	}
	if err := target.register(&target.name); err != nil {
		return err
	}
	if e, err = target.entry(); err != nil {
		return err
	}
	copy(e[13:], saved[13:])
	e[11] = saved[11]
	if e[11]&attrDirectory == 0 {
		e[11] |= attrArchive
	}
	target.changed()
	if e[11]&attrDirectory != 0 && target.first != old.first {
		if err := fs.setParent(moved, target.first); err != nil {
			return err
		}
	}
	if err := old.remove(); err != nil {
		return err
	}
	return fs.Sync()
}

// setParent changes what .. means in a directory.
func (fs *FS) setParent(cluster, parent uint32) error {
	sector, err := fs.sectorOf(cluster)
	if err != nil {
		return err
	}
	b, err := fs.load(sector)
	if err != nil {
		return err
	}
	if e := b[entrySize : 2*entrySize]; e[1] == '.' {
		fs.setCluster(e, parent)
		fs.win.dirty = true
	}
	return nil
}

// Attributes are what can be said of a file.
type Attributes struct{ ReadOnly, Hidden, System bool }

// SetAttributes gives a file or directory exactly these attributes.
func (fs *FS) SetAttributes(path string, a Attributes) error {
	o, err := fs.walk(path)
	if err != nil {
		return err
	}
	if o.root {
		return ErrInvalidName
	}
	e, err := o.entry()
	if err != nil {
		return err
	}
	e[11] &^= attrReadOnly | attrHidden | attrSystem
	if a.ReadOnly {
		e[11] |= attrReadOnly
	}
	if a.Hidden {
		e[11] |= attrHidden
	}
	if a.System {
		e[11] |= attrSystem
	}
	o.changed()
	return fs.Sync()
}
