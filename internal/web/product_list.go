package web

func (s *site) productList(r *request) (view, error) {
	products, err := s.control.ListProducts(r.ctx, r.scope)
	return view{title: r.org.Name, crumbs: here(r), parts: []part{
		{id: "products", body: productListPage(r, products), live: true},
		{id: "product-form", body: productForm(r)},
	}}, err
}
